"""A replica's hold on GPU memory, as the replica sees it; one without GPUs holds nothing."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from dsfn.runtime.gpus.gpus import Gpus
from dsfn.runtime.gpus.holding import Holder, Holding
from dsfn.runtime.worker.messages import Gpu


@dataclass(eq=False, slots=True)
class Grip:
    """`snapshot` is where its weights come from, None for a function that has none."""

    gpus: Gpus
    holding: Holding
    snapshot: Path | None

    @property
    def devices(self) -> tuple[Gpu, ...]:
        """The GPUs that it is for."""
        return self.holding.gpus

    @property
    def can_park(self) -> bool:
        """Whether its weights can leave their GPUs while its process stays."""
        return self.snapshot is not None

    async def attach(self, owner: socket.socket | None, holder: Holder) -> None:
        """Connects a worker's socket to the memory owner. Raises `OwnerLost`."""
        if self.devices and owner is not None:
            self.holding.holder = holder
            await self.gpus.attach(owner, self.devices)

    async def take(self, timeout_s: float) -> None:
        """Has room for the weights, and the weights in reach.

        Raises `MemoryFull`, `OwnerLost`, `CorruptSnapshot`.
        """
        if not self.devices:
            return
        if self.snapshot is not None:
            await self.gpus.bring(self.snapshot)  # they may have had to leave the arena
        await self.gpus.take(self.holding, timeout_s)

    async def freeze(self, pid: int) -> None:
        """Takes the process's context. Raises `DeviceFault`, `OwnerLost`."""
        await self.gpus.freeze(self.holding, pid)

    async def thaw(self, pid: int) -> None:
        """Gives it back; after `take`. Raises `DeviceFault`, `OwnerLost`."""
        await self.gpus.thaw(self.holding, pid)

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
