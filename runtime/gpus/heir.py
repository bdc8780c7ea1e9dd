"""A second memory owner, which has done all that takes long, for when the first is lost."""

from __future__ import annotations

from dataclasses import dataclass

from dsfn.runtime.gpus.holding import Holding
from dsfn.snapshots.owner.control import OwnerControl


@dataclass(eq=False, slots=True)
class Heir:
    """An owner that nobody has asked for anything. As a `Holder` of its contexts it is the first
    to go."""

    control: OwnerControl
    holding: Holding
    heat: float = -2.0
    function: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether it can take over."""
        return not self.control.lost.done()

    def always_stays(self) -> bool:
        """See `Holder`."""
        return False

    def can_give_up(self) -> bool:
        """See `Holder`."""
        return self.is_alive

    async def give_up(self) -> None:
        """See `Holder`. Its contexts go with it."""
        await self.control.stop()

    def can_freeze(self) -> bool:
        """See `Holder`. It would have to be thawed before it could take over."""
        return False

    async def freeze(self) -> None:
        """See `Holder`."""
        await self.give_up()

    async def leave(self) -> None:
        """See `Holder`."""
        await self.give_up()

    def owner_lost(self) -> None:
        """See `Holder`. It has nothing that was the owner's."""
