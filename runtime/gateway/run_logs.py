"""What the calls of one run printed, out of the logs of its functions."""

from __future__ import annotations

import asyncio
import heapq
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import field

from dsfn.functions.values import dataclass
from dsfn.runtime.gateway.ndjson import ndjson_line
from dsfn.runtime.gateway.run_documents import all_steps, has_ended
from dsfn.runtime.logfile import POLL_S
from dsfn.runtime.logs import Logs
from dsfn.runtime.services import Services
from dsfn.runtime.workflows.model import Change, RunRecord, StepRecord, item_of

CHUNK_BYTES = 64 << 10
# Lines of calls that are not known to belong to the run, or not yet.
MAX_UNKNOWN_LINES = 10_000
# A worker's pipe is read when its call has been answered already.
_LAST_WORDS_S = 2 * POLL_S
_INVOCATION = b'"invocation":"'


@dataclass(eq=False)
class _Calls:
    """The run's calls by their ids, which are those that the lines of logs have."""

    steps: dict[bytes, StepRecord] = field(default_factory=dict)

    def add(self, step: StepRecord) -> None:
        for invocation in step.invocations:
            self.steps[invocation.encode()] = step

    def line(self, line: bytes) -> bytes | None:
        """The line with its step, None when it is of no call of the run."""
        step = self.steps.get(_invocation(line))
        if step is None:
            return None
        document = {"step": step.step, "item": item_of(step.path), "function": step.function}
        return ndjson_line({**json.loads(line), **document})


async def run_logs(services: Services, run: RunRecord, follow: bool) -> AsyncGenerator[bytes, None]:
    """Lines of JSON, oldest first; with `follow` they go on until the run has ended."""
    calls, functions = _Calls(), services.workflows.revision(run.revision).dag.functions
    if not follow or has_ended(run):
        for step in await all_steps(services.runs, run.id):
            calls.add(step)
        chunks = _read(services.logs, functions, run.started_at_us, calls)
        while chunk := await asyncio.to_thread(next, chunks, b""):
            yield chunk
        return
    changes = services.runs.watch(run.id)
    async with _lines_to_come(services.logs, functions, run.started_at_us) as lines:
        for step in await all_steps(services.runs, run.id):
            calls.add(step)
        follower = _Follower(calls, lines)
        ended = asyncio.ensure_future(follower.learn(changes))
        try:
            while services.life.accepts_calls and not ended.done():
                await asyncio.wait({ended}, timeout=POLL_S)
                for line in follower.take():
                    yield line
            await asyncio.sleep(_LAST_WORDS_S)
            for line in follower.take():
                yield line
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)


@dataclass(eq=False)
class _Follower:
    """Sorts out which lines are the run's. One may come before it is known whose call it is of."""

    calls: _Calls
    lines: asyncio.Queue[bytes]
    _unknown: deque[bytes] = field(default_factory=lambda: deque(maxlen=MAX_UNKNOWN_LINES))

    async def learn(self, changes: AsyncIterator[Change]) -> None:
        """Keeps the calls up to date until the run has ended."""
        async for change in changes:
            if change.step is not None:
                self.calls.add(change.step)

    def take(self) -> Iterator[bytes]:
        """The run's lines among those that have come."""
        waiting = list(self._unknown)
        while not self.lines.empty():
            waiting.append(self.lines.get_nowait())
        self._unknown.clear()
        for line in waiting:
            if (own := self.calls.line(line)) is not None:
                yield own
            elif _INVOCATION in line:
                self._unknown.append(line)


def _read(logs: Logs, functions: Iterable[str], since_us: int, calls: _Calls) -> Iterator[bytes]:
    """The run's lines of all logs in the order of time, in chunks. Reads files."""
    chunk: list[bytes] = []
    size = 0
    # A line begins with its time.
    for line in heapq.merge(*(_own(logs, name, since_us, calls) for name in functions)):
        chunk.append(line)
        size += len(line)
        if size >= CHUNK_BYTES:
            yield b"".join(chunk)
            chunk, size = [], 0
    yield b"".join(chunk)


def _own(logs: Logs, function: str, since_us: int, calls: _Calls) -> Iterator[bytes]:
    for chunk in logs.read(function, since_us):
        for line in chunk.splitlines():
            if (own := calls.line(line)) is not None:
                yield own


@asynccontextmanager
async def _lines_to_come(
    logs: Logs, functions: Iterable[str], since_us: int
) -> AsyncGenerator[asyncio.Queue[bytes], None]:
    """What is in the logs and what comes, line by line; of several functions as it comes."""
    queue: asyncio.Queue[bytes] = asyncio.Queue(MAX_UNKNOWN_LINES)

    async def follow(function: str) -> None:
        async with aclosing(logs.follow(function, since_us)) as chunks:
            async for chunk in chunks:
                for line in chunk.splitlines():
                    await queue.put(line)

    tasks = [asyncio.ensure_future(follow(name)) for name in functions]
    try:
        yield queue
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _invocation(line: bytes) -> bytes:
    """The call that a line says it is of; empty where it says none. What was printed comes after
    it, so that no function can claim another's call."""
    return line.partition(_INVOCATION)[2].partition(b'"')[0]
