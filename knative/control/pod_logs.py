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
from dataclasses import field

from dsfn.functions.errors import ClusterRefused, DsfnError, NotFound
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.function import FUNCTION
from dsfn.knative.manifests.words import FUNCTION_LABEL
from dsfn.runtime.clock import rfc3339

POLL_S = 1.0
_CHUNK_LINES = 1000
_MAX_BYTES = 16 << 20
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
        lines = heapq.merge(*(self._lines(pod, since) for pod in self._pods(function)))
        return _in_chunks(lines)

    async def follow(self, function: str, since_us: int = 0) -> AsyncGenerator[bytes, None]:
        """See `Logs`. What is away for a while is looked at again."""
        told = _Told(rfc3339(since_us))
        while self._is_followed:
            try:
                lines = await asyncio.to_thread(self._news, function, told)
            except DsfnError as error:
                _LOG.warning("The output of %s cannot be read now: %s", function, error.message)
                lines = []
            if lines:
                yield b"".join(lines)
            await asyncio.sleep(POLL_S)

    def stop_following(self) -> None:
        """See `Logs`."""
        self._is_followed = False

    def _news(self, function: str, told: _Told) -> list[bytes]:
        pods = self._pods(function)
        lines = [told.news(pod, self._lines(pod, told.since_of(pod))) for pod in pods]
        return sorted(line for each in lines for line in each)

    def _pods(self, function: str) -> list[str]:
        wanted = {"labelSelector": f"{FUNCTION_LABEL}={function}"}
        found = self.objects.list("v1", "Pod", self.namespace, wanted)
        return [str(pod["metadata"]["name"]) for pod in found]

    def _lines(self, pod: str, since: str) -> list[bytes]:
        """The lines of the functions in a pod's output, none from before `since`."""
        query = {"container": FUNCTION, "limitBytes": str(_MAX_BYTES), "sinceTime": since}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        try:
            output = self.objects.cluster.request("GET", path, query)
        except (NotFound, ClusterRefused):
            return []  # it has gone, or its container has not begun
        first, name = _HEAD + since.encode(), json.dumps(pod).encode()
        return [
            # Before what the function itself has written.
            line.replace(b',"stream":', b',"pod":' + name + b',"stream":', 1) + b"\n"
            # The last one may not be whole yet.
            for line in output.split(b"\n")[:-1]
            if line.startswith(_HEAD) and line >= first
        ]


@dataclass(eq=False)
class _Told:
    """Which lines of each pod have been told: all up to its last one. Lines may share a time."""

    since: str
    _last: dict[str, tuple[str, int]] = field(default_factory=dict)

    def since_of(self, pod: str) -> str:
        return self._last.get(pod, (self.since, 0))[0]

    def news(self, pod: str, lines: list[bytes]) -> list[bytes]:
        _, count = self._last.get(pod, (self.since, 0))
        news = lines[count:]
        if lines:
            last = _time(lines[-1])
            self._last[pod] = (last, sum(_time(line) == last for line in lines))
        return news


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
