"""What functions print in pods, as their containers' output has it.

A pod prints a line of JSON for each line of a function; what it prints of its own is left out. A
pod that goes takes its output with it.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
from collections.abc import AsyncGenerator, Iterator
from datetime import datetime, timedelta
from itertools import chain

from dsfn.functions.errors import ClusterRefused, DsfnError, NotFound
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.function import FUNCTION
from dsfn.knative.manifests.words import FUNCTION_LABEL
from dsfn.runtime.clock import rfc3339

POLL_S = 1.0
_CHUNK_LINES = 1000
# Of a pod's output at once: from the API server come the first so many of what is asked for.
_PAGE_BYTES = 1 << 20
_MAX_PAGE_BYTES = 16 << 20
_HEAD = b'{"time":"'
_LOG = logging.getLogger("dsfn.control")


@dataclass(eq=False)
class PodLogs:
    """`Logs` of a namespace's functions."""

    objects: Objects
    namespace: str
    _is_followed: bool = True

    def read(self, function: str, since_us: int = 0) -> Iterator[bytes]:
        """See `Logs`. Raises `ClusterError`."""
        since = rfc3339(since_us)
        # A line begins with its time.
        lines = heapq.merge(*(self._all(pod, since) for pod in self._pods(function)))
        return _in_chunks(lines)

    async def follow(self, function: str, since_us: int = 0) -> AsyncGenerator[bytes, None]:
        """See `Logs`. What is away for a while is looked at again."""
        since, read = rfc3339(since_us), dict[str, _Read]()
        while self._is_followed:
            try:
                lines = await asyncio.to_thread(self._news, function, since, read)
            except DsfnError as error:
                _LOG.warning("The output of %s cannot be read now: %s", function, error.message)
                lines = []
            if lines:
                yield b"".join(lines)
            await asyncio.sleep(POLL_S)

    def stop_following(self) -> None:
        """See `Logs`."""
        self._is_followed = False

    def _all(self, pod: str, since: str) -> Iterator[bytes]:
        """A pod's lines: of the first page now, of the others as they are wanted."""
        read = _Read(since)
        lines, is_more = self._page(pod, read)
        return chain(lines, self._rest(pod, read)) if is_more else iter(lines)

    def _rest(self, pod: str, read: _Read) -> Iterator[bytes]:
        is_more = True
        while is_more:
            lines, is_more = self._page(pod, read)
            yield from lines

    def _news(self, function: str, since: str, read: dict[str, _Read]) -> list[bytes]:
        """A page of each pod's."""
        pods = self._pods(function)
        pages = [self._page(pod, read.setdefault(pod, _Read(since)))[0] for pod in pods]
        return sorted(line for each in pages for line in each)

    def _pods(self, function: str) -> list[str]:
        wanted = {"labelSelector": f"{FUNCTION_LABEL}={function}"}
        found = self.objects.list("v1", "Pod", self.namespace, wanted)
        return [str(pod["metadata"]["name"]) for pod in found]

    def _page(self, pod: str, read: _Read) -> tuple[list[bytes], bool]:
        """The lines of the functions that come next in a pod's output, and whether there may be
        more."""
        bytes_ = read.page_bytes
        query = {"container": FUNCTION, "limitBytes": str(bytes_), "sinceTime": read.since}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        try:
            output = self.objects.cluster.request("GET", path, query)
        except (NotFound, ClusterRefused):
            return [], False  # it has gone, or its container has not begun
        first, name = _HEAD + read.since.encode(), json.dumps(pod).encode()
        lines = [
            # Before what the function itself has written.
            line.replace(b',"stream":', b',"pod":' + name + b',"stream":', 1) + b"\n"
            # The last one may not be whole yet.
            for line in output.split(b"\n")[:-1]
            if line.startswith(_HEAD) and line >= first
        ]
        is_full = len(output) >= bytes_
        return read.news(pod, lines, is_full), is_full


@dataclass(eq=False)
class _Read:
    """How far a pod's output was read: all before `since`, and of the lines of that time the first
    `count`, as lines may share a time. `page_bytes`: how much is to be asked for."""

    since: str
    count: int = 0
    page_bytes: int = _PAGE_BYTES

    def news(self, pod: str, lines: list[bytes], is_full: bool) -> list[bytes]:
        """Those of a page's lines that were not read before; they are now."""
        news = lines[self.count :]
        if news:
            self.since, self.page_bytes = _time(lines[-1]), _PAGE_BYTES
            self.count = sum(_time(line) == self.since for line in lines)
        elif is_full:
            self._go_on(pod)
        return news

    def _go_on(self, pod: str) -> None:
        """Asks for more, as kubelets begin with the whole second, and all that was asked for was
        read before."""
        if self.page_bytes < _MAX_PAGE_BYTES:
            self.page_bytes *= 2
            return
        _LOG.warning(
            "%s has printed more than %d MiB in a second: what is beyond them is left out.",
            pod,
            _MAX_PAGE_BYTES >> 20,
        )
        second = datetime.fromisoformat(self.since).replace(microsecond=0)
        self.since = (second + timedelta(seconds=1)).isoformat()
        self.count, self.page_bytes = 0, _PAGE_BYTES


def _time(line: bytes) -> str:
    return line[len(_HEAD) :].partition(b'"')[0].decode(errors="replace")


def _in_chunks(lines: Iterator[bytes]) -> Iterator[bytes]:
    chunk: list[bytes] = []
    for line in lines:
        chunk.append(line)
        if len(chunk) == _CHUNK_LINES:
            yield b"".join(chunk)
            chunk = []
    yield b"".join(chunk)
