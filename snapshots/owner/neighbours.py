"""Slabs in memory of devices that nobody needs: a restore on a peer takes them from there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import field
from functools import partial

from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.arena import Arena, ArenaSlab, Form, Key
from dsfn.snapshots.owner.copier import Copier, Copy
from dsfn.snapshots.owner.device import Granule
from dsfn.snapshots.owner.pool import GranulePool

# Workers take memory of a device without asking its owner, for what they compute: so much of it
# is left to them, and a look now and then gives back what they have come to need.
_LEFT_OF_DEVICE = 1 / 4
_LOOK_S = 1.0
_COOLER = 1 / 2  # what makes room for a slab is used less than half as often


@dataclass(slots=True, eq=False)
class Kept:
    """A slab in granules of the device number `device`. `readers` counts the copies from it."""

    slab: ArenaSlab
    device: int
    granules: list[Granule]
    fill: Copy | None = None
    readers: int = 0
    leaving: bool = False
    then: list[Callable[[], None]] = field(default_factory=list)

    @property
    def is_busy(self) -> bool:
        """Whether something is copied to it or from it."""
        return self.fill is not None or self.readers > 0


class NeighbourTier:
    """Keeps slabs that were used of late on devices with memory to spare, as long as that lasts.

    They come from the arena, in the background: what a worker gives back it may have written
    to. They lie in memory that no worker ever had or will have, so what is there is what was
    copied there. Guests go first: before a device gives back idle granules of its own tenants,
    who would wait for the driver to scrub others, whereas a slab that is no longer kept still
    comes from the arena.

    All in the owner's loop, but for what `post` brings there. `peers`: of each device, those
    whose memory it reaches.
    """

    def __init__(
        self,
        arena: Arena,
        pools: Sequence[GranulePool],
        copier: Copier,
        peers: Sequence[Sequence[int]],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._arena = arena
        self._pools = pools
        self._copier = copier
        self._peers = peers
        self._post = post
        self._kept: dict[Key, Kept] = {}
        for device, pool in enumerate(pools):
            pool.evict_guests = partial(self._make_room, device)
        if any(peers):
            threading.Thread(target=self._look, name="dsfn-neighbours", daemon=True).start()

    def find(self, slab: ArenaSlab, device: int) -> Kept | None:
        """Where a copy to `device` finds the slab; the caller counts itself as a reader."""
        kept = self._kept.get(slab.key)
        if kept is None or kept.fill is not None or kept.leaving:
            return None
        return kept if kept.device in (device, *self._peers[device]) else None

    def end_read(self, kept: Kept) -> None:
        """A copy from it has ended."""
        kept.readers -= 1
        self._settle(kept)

    def parked(self, slab: ArenaSlab, device: int) -> None:
        """A mapping of the slab on `device` is no more: keeps it nearby, if there is room, or
        slabs have it that are used less."""
        is_new = self._arena.slabs.get(slab.key) is slab and slab.key not in self._kept
        if not is_new or not self._peers[device]:
            return
        place = max(self._peers[device], key=self._spare_bytes)
        lacking_bytes = slab.data_bytes - self._spare_bytes(place)
        heat = slab.heat() * _COOLER
        cooler = [kept for kept in self._guests(place) if kept.slab.heat() < heat]
        if sum(kept.slab.data_bytes for kept in cooler if not kept.is_busy) < lacking_bytes:
            return
        self._make_room(place, lacking_bytes)
        try:
            self._keep(slab, place)
        except DsfnError:
            return  # the device has less than it said: nothing is lost but time, later

    def forget(self, key: Key, then: Callable[[], None]) -> bool:
        """Keeps the slab no longer. True if that takes a while; `then` is called after it."""
        kept = self._kept.get(key)
        return kept is not None and not self._leave(kept, then)

    def wait_for_room(self, device: int, then: Callable[[], None]) -> bool:
        """Whether memory of a device will be free soon that is not yet; then calls `then`."""
        for kept in self._kept.values():
            if kept.leaving and kept.device == device:
                kept.then.append(then)
                return True
        return False

    def trim(self) -> None:
        """Keeps nothing any longer."""
        for kept in list(self._kept.values()):
            self._leave(kept)

    def _keep(self, slab: ArenaSlab, device: int) -> None:
        kept = Kept(slab, device, self._pools[device].lend(slab.data_bytes))
        self._kept[slab.key] = kept
        form = self._arena.read(slab)
        kept.fill = Copy(
            device=device,
            source=form.source,
            granules=kept.granules,
            pieces=slab.pieces(kept.granules, self._copier.piece_bytes),
            page=None,
            done=partial(self._post_filled, kept, form),
        )
        self._copier.submit(kept.fill, background=True)

    def _post_filled(self, kept: Kept, form: Form, copy_us: int, fault: DsfnError | None) -> None:
        """Runs in any thread."""
        self._post(partial(self._filled, kept, form, fault))

    def _filled(self, kept: Kept, form: Form, fault: DsfnError | None) -> None:
        self._arena.end_read(form)
        kept.fill = None
        kept.leaving = kept.leaving or fault is not None
        self._settle(kept)

    def _leave(self, kept: Kept, *then: Callable[[], None]) -> bool:
        """Gives its memory back; False if what is being copied has to end before."""
        kept.leaving = True
        if kept.is_busy:
            kept.then += then
        if kept.fill is not None:
            self._copier.cancel(kept.fill)
        return self._settle(kept)

    def _settle(self, kept: Kept) -> bool:
        if kept.is_busy or not kept.leaving:
            return False
        del self._kept[kept.slab.key]
        self._pools[kept.device].take_back(kept.granules)
        for then in kept.then:
            self._post(then)
        return True

    def _make_room(self, device: int, lacking_bytes: int) -> None:
        """Has guests leave that had so much; those that are busy last, which takes a while."""
        for kept in self._guests(device):
            if lacking_bytes <= 0:
                return
            self._leave(kept)
            lacking_bytes -= kept.slab.data_bytes

    def _guests(self, device: int) -> list[Kept]:
        """Who is kept on a device: the idle ones, then the others, least used first."""
        guests = [kept for kept in self._kept.values() if kept.device == device]
        return sorted(guests, key=lambda kept: (kept.is_busy, kept.slab.heat()))

    def _spare_bytes(self, device: int) -> int:
        """What is free of a device beyond what is left to others."""
        account = self._pools[device].account()
        left = max(account.reserve_bytes, int(account.total_bytes * _LEFT_OF_DEVICE))
        return account.free_bytes - left

    def _look(self) -> None:
        """Runs in a thread of its own."""
        while True:
            time.sleep(_LOOK_S)
            if self._kept:
                self._post(self._give_back)

    def _give_back(self) -> None:
        for device in {kept.device for kept in self._kept.values()}:
            self._make_room(device, -self._spare_bytes(device))
