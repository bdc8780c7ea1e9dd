"""A system's own process: does what its command line says, and writes a line of JSON for each task.

    python -m benchmarks.peers.workflow_dbos DIRECTORY ADDRESS SECONDS chain:10 fan:100 load:100
    python -m benchmarks.peers.workflow_dbos DIRECTORY ADDRESS SECONDS begin:10000  # kill it
    python -m benchmarks.peers.workflow_dbos DIRECTORY ADDRESS SECONDS end:10000

The lines are appended to `DIRECTORY/found.jsonl`. Only the standard library is imported: each
peer's process runs in an environment of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from benchmarks.workflows.cases import STEPS_OF_A_RUN, Case

LEAST_SAMPLES, MOST_SAMPLES = 3, 200
PATIENCE = 4  # times as long as asked, for the least number of samples
RUN_S = 60.0
LOOK_S = 0.2


class Client(Protocol):
    """Has a system run workflows whose steps add one to a number: so many in a chain, or one for
    each number below so many, whose results it adds up."""

    async def chain(self, steps: int) -> int: ...
    async def fan_out(self, items: int) -> int: ...


@runtime_checkable
class Resumable(Client, Protocol):
    """Of a system that goes on with interrupted runs by itself.

    `begin` starts runs of three steps, of which the second waits for the file `DIRECTORY/gate`,
    and comes back when the system has promised to finish all of them. `ended_at_s` is the Unix
    time at which the last of so many runs ended, `None` while one has not.
    """

    async def begin(self, runs: int) -> None: ...
    async def ended_at_s(self, runs: int) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Site:
    """Where a client finds its system: a directory of its own, and a URL or what else it needs."""

    directory: Path
    address: str

    @property
    def found(self) -> Path:
        """What the client found, a line for each task."""
        return self.directory / "found.jsonl"

    @property
    def gate(self) -> Path:
        """The file that interrupted runs wait for."""
        return self.directory / "gate"


def main(connect: Callable[[Site], AbstractAsyncContextManager[Client]]) -> None:
    """Runs the tasks on the command line."""
    directory, address, seconds, *tasks = sys.argv[1:]
    asyncio.run(_run(connect, Site(Path(directory), address), float(seconds), tasks))


async def _run(
    connect: Callable[[Site], AbstractAsyncContextManager[Client]],
    site: Site,
    seconds: float,
    tasks: Sequence[str],
) -> None:
    async with connect(site) as client:
        for task in tasks:
            found = await _do(client, task, seconds)
            with site.found.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"task": task, **found}) + "\n")
            if task.startswith("begin:"):
                await asyncio.Event().wait()


async def _do(client: Client, task: str, seconds: float) -> dict[str, object]:
    word, _, size = task.partition(":")
    try:
        if word not in ("begin", "end"):
            return await _measured(client, Case.parse(task), seconds)
        assert isinstance(client, Resumable), type(client)
        if word == "end":
            return {"ended_at_s": await _all_ended(client, int(size))}
        await client.begin(int(size))
        return {}
    except TimeoutError:
        return {"failed": f"a run took longer than {RUN_S:g} s"}
    except Exception as error:  # noqa: BLE001  a peer may raise anything; it is reported
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"[:300]}


async def _measured(client: Client, case: Case, seconds: float) -> dict[str, object]:
    if case.shape == "load":
        return await _load(client, case, seconds)
    return await _samples(client, case, seconds)


async def _samples(client: Client, case: Case, seconds: float) -> dict[str, object]:
    """One run at a time. The first does not count where it did not take all of the time."""
    first_s = await _timed(client, case)
    each_s = [first_s] if first_s > seconds else []
    began_s = time.perf_counter() - sum(each_s)
    while len(each_s) < MOST_SAMPLES:
        so_far_s = time.perf_counter() - began_s
        if so_far_s > seconds * (PATIENCE if len(each_s) < LEAST_SAMPLES else 1):
            break
        each_s.append(await _timed(client, case))
    return {"each_s": each_s, "all_s": time.perf_counter() - began_s}


async def _timed(client: Client, case: Case) -> float:
    began_s = time.perf_counter()
    async with asyncio.timeout(RUN_S):
        if case.shape == "chain":
            answer, right = await client.chain(case.size), case.size
        else:
            answer, right = await client.fan_out(case.size), case.size * (case.size + 1) // 2
    took_s = time.perf_counter() - began_s
    assert answer == right, (case, answer)
    return took_s


async def _load(client: Client, case: Case, seconds: float) -> dict[str, object]:
    """Each of many runners starts a run when its last has ended, for so long; none is cut off."""
    each_s: list[float] = []
    began_s = time.perf_counter()

    async def runner() -> None:
        while True:
            each_s.append(await _timed(client, Case("chain", STEPS_OF_A_RUN)))
            if time.perf_counter() - began_s > seconds:
                return

    await asyncio.gather(*(runner() for _ in range(case.size)))
    return {"each_s": each_s, "all_s": time.perf_counter() - began_s}


async def _all_ended(client: Resumable, runs: int) -> float:
    while (ended_at_s := await client.ended_at_s(runs)) is None:
        await asyncio.sleep(LOOK_S)
    return ended_at_s
