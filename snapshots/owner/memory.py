"""Slabs in memory that the owner holds: the worker's side."""

from __future__ import annotations

import weakref
from collections import deque
from pathlib import Path
from time import perf_counter_ns

import torch

from dsfn.functions.errors import OwnerLost, SnapshotError
from dsfn.functions.values import dataclass
from dsfn.snapshots.format import SlabEntry
from dsfn.snapshots.owner.arrival import OwnedArrival
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.device import GRANULARITY_BYTES
from dsfn.snapshots.owner.linux import allow_many_descriptors
from dsfn.snapshots.owner.progress import ProgressReader
from dsfn.snapshots.owner.space import Space


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the last time took that a slab came: until the memory was mapped, until somebody
    had waited for all of it, and the copy alone, which runs beside the mapping."""

    mapped_us: int
    total_us: int
    copy_us: int


@dataclass(slots=True)
class _Mapped:
    number: int | None = None


class _Range:
    """A reserved range. It lasts as long as the slab or any storage over it."""

    def __init__(self, space: Space, size_bytes: int, orphans: deque[int]) -> None:
        self.size_bytes = size_bytes + -size_bytes % GRANULARITY_BYTES
        self.address = space.reserve(self.size_bytes)
        self.mapped = _Mapped()
        end = weakref.finalize(
            self, _end_range, space, self.address, self.size_bytes, self.mapped, orphans
        )
        end.atexit = False  # the end of the process frees it as well


def _end_range(
    space: Space, address: int, size_bytes: int, mapped: _Mapped, orphans: deque[int]
) -> None:
    """May run in any thread, in the middle of anything: the owner is told later."""
    if mapped.number is not None:
        space.synchronise()
        space.unmap(address, size_bytes)
        orphans.append(mapped.number)
    space.free(address, size_bytes)


class OwnedSlab:
    """A `Slab` whose memory is the owner's. Several threads may call it."""

    def __init__(self, memory: OwnedMemory, digest: str, size_bytes: int) -> None:
        self._memory = memory
        self._digest = digest
        self._size_bytes = size_bytes  # of none there are addresses, and never memory under them
        self._arrival: OwnedArrival | None = None
        self._began_ns = 0
        self._range: _Range | None = _Range(memory.space, max(size_bytes, 1), memory.orphans)
        self.timing = Timing(0, 0, 0)

    def storage(self, offset: int, size_bytes: int) -> torch.UntypedStorage:
        """See `dsfn.snapshots.memory.Slab`. The storage keeps range and memory."""
        place, space = self._open_range(), self._memory.space
        if not size_bytes:
            return torch.empty(0, dtype=torch.uint8, device=space.device).untyped_storage()
        if offset + size_bytes > place.size_bytes:
            raise SnapshotError("A storage reaches beyond its slab.")
        return space.storage(place.address + offset, size_bytes, place)

    @property
    def arrival(self) -> OwnedArrival | None:
        """See `dsfn.snapshots.memory.Slab`."""
        return self._arrival

    def park(self) -> None:
        """See `dsfn.snapshots.memory.Slab`. Waits for the device to finish what it does."""
        with self._memory.client.lock:
            place = self._open_range()
            if place.mapped.number is not None:
                self._memory.space.synchronise()
                self._take_away(place)

    def begin_unpark(self) -> None:
        """See `dsfn.snapshots.memory.Slab`.

        Raises `NotFound` (the arena has no such slab), `MemoryFull`, `OwnerLost` and
        `DeviceFault`; the slab is parked then as it was before.
        """
        with self._memory.client.lock:
            self._begin(self._open_range())

    def unpark(self) -> None:
        """See `dsfn.snapshots.memory.Slab`. Raises as `begin_unpark` does."""
        with self._memory.client.lock:
            place = self._open_range()
            self._begin(place)
            if self._arrival is not None:
                self._finish(place, self._arrival)

    def is_intact(self) -> bool:
        """See `dsfn.snapshots.memory.Slab`: by the owner's own account. Raises `SnapshotError`
        for a slab that is parked, and as `OwnerClient.check`."""
        with self._memory.client.lock:
            place = self._open_range()
            if place.mapped.number is None:
                raise SnapshotError("The slab is parked.")
            if self._arrival is not None:
                self._finish(place, self._arrival)
            self._memory.space.synchronise()
            return self._memory.client.check(place.mapped.number, place.size_bytes)

    def close(self) -> None:
        """See `dsfn.snapshots.memory.Slab`. Memory is given back with the last storage; for one
        that lives on, what is on its way is waited for. Raises `OwnerLost`, `DeviceFault`."""
        with self._memory.client.lock:
            arrival, self._arrival = self._arrival, None
            place = None if self._range is None else weakref.ref(self._range)
            self._range = None
            if arrival is not None and place is not None and place() is not None:
                arrival.finish()
            self._memory.release_orphans()

    def _open_range(self) -> _Range:
        if self._range is None:
            raise SnapshotError("The slab is closed.")
        return self._range

    def _begin(self, place: _Range) -> None:
        """Puts new memory under the range, into which the owner copies already."""
        if place.mapped.number is not None or not self._size_bytes:
            return
        self._memory.release_orphans()
        client, space, self._began_ns = self._memory.client, self._memory.space, perf_counter_ns()
        with client.map(self._digest, self._memory.device) as given:
            try:
                if sum(given.sizes) != place.size_bytes:
                    raise SnapshotError("The arena has a slab of another size.")
                progress = ProgressReader(given.progress)
                space.map(place.address, given.sizes, given.descriptors)
            except BaseException:  # whatever it was goes on; the mapping must not stay behind
                self._memory.release(given.number)
                raise
        place.mapped.number = given.number
        self._arrival = OwnedArrival(
            client, given.number, progress, place.address, self._size_bytes
        )
        self.timing = Timing(self._elapsed_us(), 0, 0)

    def _finish(self, place: _Range, arrival: OwnedArrival) -> None:
        try:
            copy_us = arrival.finish()
        except BaseException:  # whatever it was goes on; the mapping must not stay behind
            self._memory.space.synchronise()
            self._take_away(place)
            raise
        self._arrival = None
        self.timing = Timing(self.timing.mapped_us, self._elapsed_us(), copy_us)

    def _take_away(self, place: _Range) -> None:
        """Takes the memory away from under the range and gives it back."""
        number, place.mapped.number = place.mapped.number, None
        assert number is not None
        if self._arrival is not None:
            self._arrival.call_off()
            self._arrival = None
        self._memory.space.unmap(place.address, place.size_bytes)
        self._memory.release(number)

    def _elapsed_us(self) -> int:
        return (perf_counter_ns() - self._began_ns) // 1000


class OwnedMemory:
    """A `Memory` of the owner that `client` speaks to: of its device number `device`, which is
    `space` in this process."""

    def __init__(self, client: OwnerClient, space: Space, device: int = 0) -> None:
        allow_many_descriptors()
        self.client = client
        self.space = space
        self.device = device
        self.orphans: deque[int] = deque()  # mappings that ended with their last storage

    @property
    def device_class(self) -> str:
        """See `dsfn.snapshots.memory.Memory`."""
        return self.space.device_class

    def map(self, directory: Path, entry: SlabEntry) -> OwnedSlab:
        """See `dsfn.snapshots.memory.Memory`. The arena has to have the slab. Raises as
        `OwnedSlab.begin_unpark`."""
        slab = OwnedSlab(self, entry.digest, entry.data_bytes)
        try:
            slab.begin_unpark()
        except BaseException:  # it goes on; the range must not stay behind
            slab.close()
            raise
        return slab

    def release(self, number: int) -> None:
        """Gives a mapping back. An owner that is lost has lost it already: no error here."""
        try:
            self.client.release(number)
        except OwnerLost:
            return

    def release_orphans(self) -> None:
        """Gives back what ended with its last storage."""
        while self.orphans:
            self.release(self.orphans.popleft())
