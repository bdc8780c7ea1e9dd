"""A stand-in for a GPU: memory files in place of its memory, a loop in place of its bus."""

from __future__ import annotations

import ctypes
import mmap
import os
import time

from dsfn.snapshots.owner.device import Granule
from dsfn.snapshots.owner.errors import memory_full
from dsfn.snapshots.owner.linux import map_memory, unmap_memory


class HostDevice:
    """A `Device` of `total_bytes`, whose bus carries `bytes_per_s` (0: as fast as it goes)."""

    device_class = "cpu"

    def __init__(self, total_bytes: int, bytes_per_s: int) -> None:
        self._total_bytes = total_bytes
        self._bytes_per_s = bytes_per_s
        self._taken_bytes = 0

    def use(self) -> None:
        """See `Device`."""

    def register(self, address: int, size_bytes: int) -> None:
        """See `Device`."""

    def memory(self) -> tuple[int, int]:
        """See `Device`."""
        return self._total_bytes - self._taken_bytes, self._total_bytes

    def create(self, size_bytes: int) -> Granule:
        """See `Device`."""
        free = self._total_bytes - self._taken_bytes
        if size_bytes > free:
            raise memory_full("device", size_bytes, free)
        fd = os.memfd_create("dsfn-granule", os.MFD_CLOEXEC)
        os.ftruncate(fd, size_bytes)
        access = mmap.PROT_READ | mmap.PROT_WRITE
        address = map_memory(0, size_bytes, access, mmap.MAP_SHARED, fd)
        self._taken_bytes += size_bytes
        return Granule(size_bytes, fd, address)

    def destroy(self, granule: Granule) -> None:
        """See `Device`."""
        unmap_memory(granule.address, granule.size_bytes)
        os.close(granule.fd)
        self._taken_bytes -= granule.size_bytes

    def copy(self, target: int, source: int, size_bytes: int) -> None:
        """See `Device`. This one has ended when it returns."""
        if self._bytes_per_s:
            time.sleep(size_bytes / self._bytes_per_s)
        ctypes.memmove(target, source, size_bytes)

    def wait(self, copy: object) -> None:
        """See `Device`."""
