"""Room on one GPU: what is taken, who may have to go, who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import field

from dsfn.functions.errors import MemoryFull
from dsfn.functions.values import dataclass
from dsfn.runtime.gpus.holding import Holding
from dsfn.runtime.waiting import wait_within
from dsfn.snapshots.owner.account import DeviceAccount
from dsfn.snapshots.owner.errors import memory_full

# Memory that others than the node's replicas give back is not announced: it is looked for.
_LOOK_AGAIN_S = 0.05
# Contexts of parked replicas may take one part in so many of a GPU's memory.
MAX_CONTEXTS_SHARE = 8
# What the owner said is good for so long, as long as one part in so many stays free.
SEEN_S = 10.0
FAR_SHARE = 8

Account = Callable[[int], Awaitable[DeviceAccount]]


@dataclass(eq=False)
class Room:
    """One GPU's memory, given out in the order of asking.

    `account` asks the owner. What the node's replicas hold is known here, so that memory which is
    on its way to one of them counts from the moment it is promised.
    """

    index: int
    account: Account
    holdings: set[Holding] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _seen: DeviceAccount | None = None
    _seen_at_s: float = 0.0

    def changed(self) -> None:
        """Memory was given back, or a replica came to rest."""
        self._changed.set()

    def look_again(self) -> None:
        """What the owner said is not so any more."""
        self._seen = None

    async def make(
        self, needed_bytes: int, spare_bytes: int = 0, is_over: Callable[[], bool] = lambda: False
    ) -> None:
        """Returns when so much is free, and as much of `spare_bytes` as the GPU has beside it,
        having parked replicas at rest, the coldest first; or when whom it is for `is_over`.

        Waits for those that are busy. Raises `MemoryFull` for what could never fit, `OwnerLost`.
        """
        if self._fits_by_far(needed_bytes + spare_bytes):
            return
        while not is_over():
            self._changed.clear()
            account = await self._look()
            free_bytes = self._free_bytes(account)
            capacity_bytes = account.total_bytes - account.reserve_bytes
            if min(needed_bytes + spare_bytes, capacity_bytes) <= free_bytes:
                return
            if needed_bytes > capacity_bytes:
                raise memory_full("device", needed_bytes, capacity_bytes)
            if (victim := self._coldest()) is not None:
                await victim()
                continue
            await wait_within(self._changed, _LOOK_AGAIN_S)

    async def has_to_spare(self, spare_bytes: int) -> bool:
        """Whether so much is free, and nobody was promised it. Raises `OwnerLost`."""
        return self._free_bytes(await self._look()) >= spare_bytes

    async def settle(self) -> None:
        """Freezes the coldest of those parked while their contexts add up to too much."""
        total_bytes = (await self._look()).total_bytes
        while True:
            parked = [h for h in self.holdings if h.started and h.slab_bytes and not h.present]
            contexts_bytes = sum(holding.start_bytes for holding in parked)
            if contexts_bytes * MAX_CONTEXTS_SHARE <= total_bytes:
                return
            holders = [h.holder for h in parked if h.holder is not None and h.holder.can_freeze()]
            if not holders:
                return
            await min(holders, key=lambda holder: holder.heat).freeze()

    async def at_rest(self) -> None:
        """Returns when all that have weights here may give them up. Raises `MemoryFull` when one
        of them never does."""
        while busy := [h for h in self.present() if not _can_give_up(h)]:
            if staying := [h for h in busy if h.holder is not None and h.holder.always_stays()]:
                raise occupied(staying, "which always keep their memory")
            await self._wait_for_change()

    async def empty(self) -> bool:
        """Parks all that have weights here and may give them up; whether nobody has any then."""
        for holding in self.present():
            if holding.holder is not None and holding.holder.can_give_up():
                await holding.holder.give_up()
        return not self.present()

    def present(self) -> list[Holding]:
        """Those that have weights here."""
        return [holding for holding in self.holdings if holding.present]

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await wait_within(self._changed, _LOOK_AGAIN_S)

    async def _look(self) -> DeviceAccount:
        self._seen = await self.account(self.index)
        self._seen_at_s = asyncio.get_running_loop().time()
        return self._seen

    def _fits_by_far(self, needed_bytes: int) -> bool:
        """Whether it fits though others took much since the owner was last asked: the question
        would be the first thing that a restore waits for."""
        if self._seen is None or not needed_bytes:
            return not needed_bytes
        age_s = asyncio.get_running_loop().time() - self._seen_at_s
        margin_bytes = self._seen.total_bytes // FAR_SHARE
        return age_s < SEEN_S and needed_bytes + margin_bytes <= self._free_bytes(self._seen)

    def _free_bytes(self, account: DeviceAccount) -> int:
        """What can be promised: all but the reserve, what is promised, and what others have."""
        held_bytes = sum(
            holding.slab_bytes.get(self.index, 0) for holding in self.holdings if holding.present
        )
        held_bytes += sum(holding.unseen_bytes for holding in self.holdings)
        return account.total_bytes - account.reserve_bytes - account.others_bytes - held_bytes

    def _coldest(self) -> Callable[[], Awaitable[None]] | None:
        """How to get memory from whoever was used least of late: of those at rest the weights,
        where none is the contexts of those that are parked. Somebody waits: they are not frozen,
        which takes as long as starting them again does."""
        holders = [holding.holder for holding in self.holdings if holding.holder is not None]
        resting = [holder for holder in holders if holder.can_give_up()]
        if resting:
            return min(resting, key=lambda holder: holder.heat).give_up
        parked = [holder for holder in holders if holder.can_freeze()]
        return min(parked, key=lambda holder: holder.heat).leave if parked else None


def _can_give_up(holding: Holding) -> bool:
    return holding.holder is not None and holding.holder.can_give_up()


def occupied(holdings: Iterable[Holding], why: str) -> MemoryFull:
    """The error that says that no GPU can be had alone, and because of whom."""
    names = sorted({h.holder.function for h in holdings if h.holder is not None} - {""})
    who = f"replicas of {', '.join(names)}" if names else "the weights of others"
    return MemoryFull(
        f"Too little of the GPU's memory is free, and it cannot be had alone: it has {who}, {why}.",
        what="device",
        retry_after_s=60,
    )
