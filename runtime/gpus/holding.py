"""What one replica holds of the GPUs' memory, or is about to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from dsfn.functions.values import dataclass
from dsfn.runtime.worker.messages import Gpu

LEAST_WORKSPACE_BYTES = 256 << 20
# What libraries add to a context at a process's first call: 190 MiB were seen on an H200.
LIBRARIES_BYTES = 256 << 20


class Holder(Protocol):
    """Who holds memory: a replica."""

    @property
    def heat(self) -> float:
        """How much it was used of late; the coldest gives its memory up first."""

    @property
    def function(self) -> str:
        """Whose replica it is; "" for none's."""

    def always_stays(self) -> bool:
        """Whether it never gives its memory up for others."""

    def can_give_up(self) -> bool:
        """Whether it is at rest and may lose its memory."""

    async def give_up(self) -> None:
        """Gives its memory up; it keeps its process."""

    def can_freeze(self) -> bool:
        """Whether it has given its memory up and may lose its context, too."""

    async def freeze(self) -> None:
        """Gives its context up, which takes half a second; it keeps its process."""

    async def leave(self) -> None:
        """Gives its context up at once, with its process."""

    def owner_lost(self) -> None:
        """The memory owner has gone, and what it held with it."""


class Standby(ABC):
    """What a `Holder` is that nobody uses yet: it gives up all that it has, and nothing less."""

    __slots__ = ()
    function = ""

    def always_stays(self) -> bool:
        """See `Holder`."""
        return False

    @abstractmethod
    async def give_up(self) -> None:
        """See `Holder`. Its contexts go with it."""

    def can_freeze(self) -> bool:
        """See `Holder`. It would have to be thawed before anybody could use it."""
        return False

    async def freeze(self) -> None:
        """See `Holder`."""
        await self.give_up()

    async def leave(self) -> None:
        """See `Holder`."""
        await self.give_up()

    def owner_lost(self) -> None:  # noqa: B027  # most have nothing to do
        """See `Holder`. It has nothing that was the owner's."""


@dataclass(eq=False, slots=True)
class Holding:
    """A replica's share of the GPUs. `slab_bytes`: what its weights take on each, by the owner's
    number, while they are `present`. `start_bytes`: what its process takes beside them
    while it is `started`: its context. `workspace_bytes`: what its calls allocate for as long as
    they run, for which there has to be room but which is not held. `snapshot`: where its weights
    come from, None for a function that has none. `unseen_bytes`: what it was promised of each GPU
    beside its weights, and has not made use of yet, so that the driver still calls it free. One
    that is `over` gets nothing any more: its process has gone."""

    gpus: tuple[Gpu, ...]
    slab_bytes: Mapping[int, int]
    start_bytes: int
    workspace_bytes: int = 0
    snapshot: Path | None = None
    holder: Holder | None = None
    present: bool = False
    started: bool = False
    over: bool = False
    unseen_bytes: int = 0

    @classmethod
    def of_context(cls, gpus: tuple[Gpu, ...], context_bytes: int) -> Holding:
        """A context on each of these, which is being made, and nothing else."""
        return cls(gpus, {}, context_bytes, started=True, unseen_bytes=context_bytes)

    def needed_bytes(self, index: int) -> int:
        """What it still has to get of the GPU number `index`."""
        missing = 0 if self.present else self.slab_bytes.get(index, 0)
        return missing + (0 if self.started else self.start_bytes)

    def take(self) -> None:
        """It has room for all that it needs."""
        self.unseen_bytes += self.workspace_bytes + (0 if self.started else self.start_bytes)
        self.present = self.started = True

    def let_go(self) -> None:
        """Its weights are on no GPU any more, nor what its calls had."""
        self.unseen_bytes = max(0, self.unseen_bytes - self.workspace_bytes)
        self.present = False

    def has_context(self) -> None:
        """Its process has a context, and its libraries will add to that."""
        self.unseen_bytes = min(self.unseen_bytes, LIBRARIES_BYTES + self.workspace_bytes)

    def has_all(self) -> None:
        """Its process has all that it works with: the driver's account has it from now on."""
        self.unseen_bytes = 0

    def found_too_little(self) -> None:
        """A call ran out of memory: the next one gets more room."""
        self.workspace_bytes = max(2 * self.workspace_bytes, LEAST_WORKSPACE_BYTES)
