"""A replica's hold on GPU memory, as the replica sees it; one without GPUs holds nothing."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dsfn.functions.errors import MemoryFull
from dsfn.functions.values import dataclass
from dsfn.runtime.brought_back import Stages
from dsfn.runtime.gpus.gpus import Gpus
from dsfn.runtime.gpus.holding import Holder, Holding
from dsfn.runtime.worker.messages import Gpu


@dataclass(eq=False, slots=True)
class Grip:
    """What it holds, and of which GPUs."""

    gpus: Gpus
    holding: Holding

    @property
    def devices(self) -> tuple[Gpu, ...]:
        """The GPUs that it is for."""
        return self.holding.gpus

    @property
    def can_park(self) -> bool:
        """Whether its weights can leave their GPUs while its process stays."""
        return self.holding.snapshot is not None

    async def attach(self, owner: socket.socket | None, holder: Holder) -> None:
        """Connects a worker's socket to the memory owner. Raises `OwnerLost`."""
        if self.devices and owner is not None:
            self.holding.holder = holder
            await self.gpus.attach(owner, self.devices)

    @asynccontextmanager
    async def taken(self, timeout_s: float, stages: Stages) -> AsyncIterator[None]:
        """It has room for the weights, and inside the block, in which they are mapped, the arena
        has them.

        Raises `MemoryFull`, `OwnerLost`, `CorruptSnapshot`, `ReplicaLost` (see `Gpus.take`).
        """
        if not self.devices:
            yield
            return
        if self.holding.snapshot is not None:
            await self.gpus.bring(self.holding.snapshot)  # it may have had to leave the arena
        stages.ended("restore.arena")
        await self.gpus.take(self.holding, timeout_s)
        stages.ended("queue.room")
        # While it waited for room, others had a use for that in the arena.
        async with self.gpus.in_arena(self.holding.snapshot):
            stages.ended("restore.arena")
            try:
                yield
            except MemoryFull:
                self.gpus.look_again(self.holding)
                raise

    async def freeze(self, pid: int) -> None:
        """Takes the process's context. Raises `DeviceFault`, `OwnerLost`."""
        await self.gpus.freeze(self.holding, pid)

    async def thaw(self, pid: int) -> None:
        """Gives it back; inside of `taken`. Raises `DeviceFault`, `OwnerLost`."""
        await self.gpus.thaw(self.holding, pid)

    def has_context(self) -> None:
        """The process has its context, and the weights."""
        self.holding.has_context()

    def has_all(self) -> None:
        """The process has run a call."""
        self.holding.has_all()

    def found_too_little(self) -> None:
        """A call ran out of the GPU's memory."""
        self.holding.found_too_little()

    def let_go(self) -> None:
        """The weights are on no GPU any more."""
        self.gpus.let_go(self.holding)

    def forget(self) -> None:
        """The process has gone."""
        self.gpus.forget(self.holding)

    def at_rest(self) -> None:
        """No call runs; the weights may be given up."""
        self.gpus.at_rest(self.holding)
