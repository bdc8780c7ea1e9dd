"""Workers ready to be adopted: fork servers, one for each environment, and their spares."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from dsfn.functions.errors import ReplicaStartFailed
from dsfn.functions.values import dataclass
from dsfn.runtime.libraries import LIBRARIES
from dsfn.runtime.replicas.begun import Begun
from dsfn.runtime.replicas.forkserver import ForkServer, WorkerProcess

if TYPE_CHECKING:
    from dsfn.runtime.deploy.confinement import Room

# A refill right after an adoption would take the processor from the call that is waiting.
REFILL_AFTER_S = 0.25


@dataclass(eq=False)
class Nursery:
    """One environment's fork server with `size` spares: workers forked ahead of need. `gpus`:
    whether they may come to use GPUs; `libraries`: what they are born with; `begun`: the fork
    server's process, where there is one already."""

    python: Path
    size: int
    gpus: bool = False
    libraries: tuple[str, ...] = LIBRARIES
    begun: Begun | None = None
    _server: ForkServer = field(init=False)
    _spares: deque[WorkerProcess] = field(default_factory=deque)
    _refill: asyncio.Task[None] | None = None
    _closed: bool = False

    def __post_init__(self) -> None:
        self._server = ForkServer(self.python, self.gpus, self.libraries, self.begun)

    async def adopt(self) -> WorkerProcess:
        """A worker that waits for its first frame: a spare, or a fresh fork when there is none.

        Raises `ReplicaStartFailed`.
        """
        worker = self._take()
        if worker is None:
            worker = await self._server.spawn()
        self._refill_later(REFILL_AFTER_S)
        return worker

    async def spawn(self, room: Room) -> WorkerProcess:
        """A fresh fork that is confined. Raises `ReplicaStartFailed`."""
        return await self._server.spawn(room)

    def warm(self) -> None:
        """Starts the fork server and its spares now, in the background."""
        self._refill_later(0)

    async def preload(self, modules: list[str]) -> None:
        """Has future workers born with these installed modules imported."""
        if await self._server.preload(modules):
            while (spare := self._take()) is not None:
                spare.kill()
                spare.close()
            self._refill_later(0)

    async def close(self) -> None:
        """Ends the fork server and every worker born from it."""
        self._closed = True
        if self._refill is not None:
            self._refill.cancel()
            await asyncio.gather(self._refill, return_exceptions=True)
        while self._spares:
            self._spares.popleft().close()
        await self._server.close()

    def _take(self) -> WorkerProcess | None:
        while self._spares:
            worker = self._spares.popleft()
            if not worker.exited.done():
                return worker
            worker.close()
        return None

    def _refill_later(self, delay_s: float) -> None:
        if self._closed or (self._refill is not None and not self._refill.done()):
            return
        self._refill = asyncio.create_task(self._fill(delay_s))

    async def _fill(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        while len(self._spares) < self.size:
            try:
                self._spares.append(await self._server.spawn())
            except ReplicaStartFailed:
                # The next call that needs a worker forks its own and reports what fails.
                return


@dataclass(eq=False)
class Launcher:
    """The nurseries of a node by environment digest ("" is the node's own environment). `begun`:
    see `Nursery`; that one's."""

    spares: int
    gpus: bool = False
    libraries: tuple[str, ...] = LIBRARIES
    begun: Begun | None = None
    _nurseries: dict[str, Nursery] = field(default_factory=dict)
    _held: Counter[str] = field(default_factory=Counter)

    def nursery(self, digest: str, python: Path) -> Nursery:
        """The nursery of one environment, made on first use."""
        found = self._nurseries.get(digest)
        if found is None:
            begun = None if digest else self.begun
            found = Nursery(python, self.spares, self.gpus, self.libraries, begun)
            self._nurseries[digest] = found
        return found

    @contextmanager
    def hold(self, digest: str) -> Iterator[None]:
        """Keeps an environment's nursery inside the block, whether a function uses it or not."""
        self._held[digest] += 1
        try:
            yield
        finally:
            self._held[digest] -= 1

    async def keep(self, digests: frozenset[str]) -> None:
        """Closes the nurseries of environments that neither a function nor a job uses."""
        held = {digest for digest, holders in self._held.items() if holders}
        for digest in set(self._nurseries) - digests - held:
            await self._nurseries.pop(digest).close()

    async def close(self) -> None:
        """Ends every fork server and worker."""
        self._held.clear()
        await self.keep(frozenset())
