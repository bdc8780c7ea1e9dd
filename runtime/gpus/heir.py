"""A second memory owner, which has done all that takes long, for when the first is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsfn.functions.values import dataclass
from dsfn.runtime.gpus.holding import Holding, Standby

if TYPE_CHECKING:
    from dsfn.snapshots.owner.control import OwnerControl


@dataclass(eq=False, slots=True)
class Heir(Standby):
    """An owner that nobody has asked for anything. As a `Holder` of its contexts it is the first
    to go."""

    control: OwnerControl
    holding: Holding
    heat: float = -2.0

    @property
    def is_alive(self) -> bool:
        """Whether it can take over."""
        return not self.control.lost.done()

    def can_give_up(self) -> bool:
        """See `Holder`."""
        return self.is_alive

    async def give_up(self) -> None:
        """See `Holder`. Its contexts go with it."""
        await self.control.stop()
