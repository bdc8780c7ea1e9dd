"""A stand-in for a GPU: memory files in place of its memory, threads in place of its buses."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from dsfn.snapshots.owner.device import Device, Granule
from dsfn.snapshots.owner.errors import memory_full
from dsfn.snapshots.owner.linux import unmap_memory
from dsfn.snapshots.process.machine import map_memory


class HostDevice:
    """A `Device` of `total_bytes`, whose link to the host carries `bytes_per_s` (0: as fast as
    it goes), and which reaches all others of its kind as fast as it goes."""

    device_class = "cpu"

    def __init__(self, total_bytes: int, bytes_per_s: int) -> None:
        self._total_bytes = total_bytes
        self._bytes_per_s = bytes_per_s
        self._taken_bytes = 0
        self._bus = ThreadPoolExecutor(1, "dsfn-bus")
        self._across = ThreadPoolExecutor(1, "dsfn-across")

    def use(self) -> None:
        """See `Device`."""

    def register(self, address: int, size_bytes: int) -> None:
        """See `Device`."""

    def memory(self) -> tuple[int, int]:
        """See `Device`."""
        return self._total_bytes - self._taken_bytes, self._total_bytes

    def reaches(self, other: Device) -> bool:
        """See `Device`."""
        return isinstance(other, HostDevice)

    def share_with(self, peers: Sequence[Device]) -> None:
        """See `Device`."""

    def create(self, size_bytes: int) -> Granule:
        """See `Device`."""
        fd = self.new_file(size_bytes)
        access = mmap.PROT_READ | mmap.PROT_WRITE
        address = map_memory(0, size_bytes, access, mmap.MAP_SHARED, fd)
        self._taken_bytes += size_bytes
        return Granule(size_bytes, fd, address)

    def new_file(self, size_bytes: int) -> int:
        """A file without a name that is so much memory. Raises `MemoryFull`."""
        free = self._total_bytes - self._taken_bytes
        if size_bytes > free:
            raise memory_full("device", size_bytes, free)
        fd = os.memfd_create("dsfn-granule", os.MFD_CLOEXEC)
        os.ftruncate(fd, size_bytes)
        return fd

    def destroy(self, granule: Granule) -> None:
        """See `Device`."""
        unmap_memory(granule.address, granule.size_bytes)
        os.close(granule.fd)
        self._taken_bytes -= granule.size_bytes

    def upload(self, target: int, source: int, size_bytes: int) -> Future[None]:
        """See `Device`."""
        return self._bus.submit(self._carry, target, source, size_bytes)

    def relay(self, target: int, place: int, source: int, size_bytes: int) -> Future[None]:
        """See `Device`."""
        uploaded = self.upload(place, source, size_bytes)
        return self._across.submit(_move, target, place, size_bytes, uploaded)

    def transfer(self, target: int, source: int, size_bytes: int) -> Future[None]:
        """See `Device`."""
        return self._across.submit(_move, target, source, size_bytes)

    def download(self, target: int, source: int, size_bytes: int) -> None:
        """See `Device`."""
        _move(target, source, size_bytes)

    def wait(self, event: object, urgent: bool = False) -> None:
        """See `Device`."""
        assert isinstance(event, Future)
        event.result()

    def _carry(self, target: int, source: int, size_bytes: int) -> None:
        if self._bytes_per_s:
            time.sleep(size_bytes / self._bytes_per_s)
        _move(target, source, size_bytes)


def _move(target: int, source: int, size_bytes: int, after: Future[None] | None = None) -> None:
    if after is not None:
        after.result()
    ctypes.memmove(target, source, size_bytes)
