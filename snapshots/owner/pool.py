"""A device's memory in granules: whose they are, and which wait to be used again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat

from dsfn.functions.errors import DsfnError, UsageError
from dsfn.snapshots.owner.account import DeviceAccount
from dsfn.snapshots.owner.device import GRANULARITY_BYTES, Device, Granule
from dsfn.snapshots.owner.errors import memory_full


class GranulePool:
    """Granules of one device.

    What a tenant has given back is kept for the same tenant: memory that is new to a
    process is scrubbed by the driver first, which a restore would have to wait for. Another
    tenant never gets it; it goes back to the driver when memory is short.
    """

    def __init__(
        self,
        device: Device,
        granule_sizes: Sequence[int],
        reserve_bytes: int,
        staging_bytes: int = 0,
    ) -> None:
        """`granule_sizes` in bytes; the owner itself holds `staging_bytes`, inside of the reserve
        as far as it goes.

        Raises `UsageError` for a size that a device does not give.
        """
        for size in granule_sizes:
            if size <= 0 or size % GRANULARITY_BYTES:
                raise UsageError(f"Granules cannot have {size} bytes.")
        self._device = device
        self._granule_sizes = sorted(granule_sizes, reverse=True)
        self._reserve_bytes = reserve_bytes
        self._staging_bytes = staging_bytes
        self._idle: dict[str, list[Granule]] = {}
        self._resident_bytes = 0
        self._neighbour_bytes = 0
        self.evict_guests: Callable[[int], None] = lambda lacking_bytes: None

    def take(self, tenant: str, size_bytes: int) -> list[Granule]:
        """Granules of together `size_bytes`, rounded up to `GRANULARITY_BYTES`: as many as fit
        of each size, largest first, and one for the rest.

        Raises `MemoryFull` and `DeviceFault`; nothing is taken then.
        """
        sizes = list(self.sizes(size_bytes))
        taken = [self._reuse(tenant, size) for size in sizes]
        try:
            missing = [size for size, granule in zip(sizes, taken, strict=True) if granule is None]
            self._make_room(sum(missing), tenant)
            for index, granule in enumerate(taken):
                if granule is None:
                    taken[index] = self._device.create(sizes[index])
        except BaseException:  # it goes on; what was taken must not stay behind
            self._idle.setdefault(tenant, []).extend(filter(None, taken))
            raise
        granules = [granule for granule in taken if granule is not None]
        self._resident_bytes += _total(granules)
        return granules

    def sizes(self, size_bytes: int) -> Iterator[int]:
        """The sizes of the granules that `take` gives."""
        left = size_bytes + -size_bytes % GRANULARITY_BYTES
        for size in self._granule_sizes:
            count, left = divmod(left, size)
            yield from repeat(size, count)
        if left:
            yield left

    def hold(self, size_bytes: int) -> Granule:
        """Memory of the reserve, for the owner itself, for a while.

        Raises `MemoryFull`, `DeviceFault`.
        """
        granule = self._device.create(size_bytes)
        self._staging_bytes += size_bytes
        return granule

    def let_go(self, granule: Granule) -> None:
        """Gives what was held back to the driver."""
        self._device.destroy(granule)
        self._staging_bytes -= granule.size_bytes

    def give(self, tenant: str, granules: Sequence[Granule]) -> None:
        """Takes granules back that nobody has mapped any more."""
        self._resident_bytes -= _total(granules)
        self._idle.setdefault(tenant, []).extend(granules)

    def discard(self, granules: Sequence[Granule]) -> None:
        """Takes granules back that a process may still write to, on its way out.

        Nobody must get them before it has ended; the driver knows when that is.
        """
        self._resident_bytes -= _total(granules)
        for granule in granules:
            self._device.destroy(granule)

    def lend(self, size_bytes: int) -> list[Granule]:
        """New granules, as for a mapping of this size, of what nobody needs now.

        Raises `MemoryFull` and `DeviceFault`; nothing is taken then.
        """
        sizes = list(self.sizes(size_bytes))
        if self._free_bytes() < sum(sizes):
            raise memory_full("device", sum(sizes), max(0, self._free_bytes()))
        granules: list[Granule] = []
        try:
            granules.extend(map(self._device.create, sizes))
        except DsfnError:
            for granule in granules:
                self._device.destroy(granule)
            raise
        self._neighbour_bytes += _total(granules)
        return granules

    def take_back(self, granules: Sequence[Granule]) -> None:
        """Gives what was lent back to the driver."""
        self._neighbour_bytes -= _total(granules)
        for granule in granules:
            self._device.destroy(granule)

    def trim(self) -> None:
        """Gives all idle granules back to the driver."""
        for granule in chain.from_iterable(self._idle.values()):
            self._device.destroy(granule)
        self._idle.clear()

    def account(self) -> DeviceAccount:
        """Where the device's bytes are."""
        free, total = self._device.memory()
        return DeviceAccount(
            device_class=self._device.device_class,
            total_bytes=total,
            free_bytes=free,
            reserve_bytes=self._reserve_bytes,
            staging_bytes=self._staging_bytes,
            resident_bytes=self._resident_bytes,
            neighbour_bytes=self._neighbour_bytes,
            pooled_bytes=_total(chain.from_iterable(self._idle.values())),
        )

    def _reuse(self, tenant: str, size_bytes: int) -> Granule | None:
        idle = self._idle.get(tenant, [])
        for index, granule in enumerate(idle):
            if granule.size_bytes == size_bytes:
                return idle.pop(index)
        return None

    def _make_room(self, needed_bytes: int, tenant: str) -> None:
        """Has the driver get back idle granules until so much can be created."""
        if not needed_bytes:
            return
        if self._free_bytes() < needed_bytes:
            self.evict_guests(needed_bytes - self._free_bytes())
        others = [each for each in self._idle if each != tenant]
        for each in (*others, tenant):
            idle = self._idle.get(each, [])
            while idle and self._free_bytes() < needed_bytes:
                self._device.destroy(idle.pop())
        if self._free_bytes() < needed_bytes:
            raise memory_full("device", needed_bytes, max(0, self._free_bytes()))

    def _free_bytes(self) -> int:
        return self._device.memory()[0] - max(0, self._reserve_bytes - self._staging_bytes)


def _total(granules: Iterable[Granule]) -> int:
    return sum(granule.size_bytes for granule in granules)
