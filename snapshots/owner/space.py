"""The seam to a worker's addresses: ranges that memory of the owner is put under.

`dsfn.snapshots.cuda` has those of a GPU; here are those of the stand-in.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from typing import Protocol

import torch

from dsfn.snapshots.owner.linux import unmap_memory
from dsfn.snapshots.process.machine import FIXED, NO_RESERVE, map_memory

_NOTHING = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE


class Space(Protocol):
    """Addresses of one device in this process. All methods may raise `DeviceFault`."""

    @property
    def device_class(self) -> str:
        """The device's name."""

    @property
    def device(self) -> torch.device:
        """What torch calls it."""

    def reserve(self, size_bytes: int) -> int:
        """The address of a range that nothing else gets."""

    def free(self, address: int, size_bytes: int) -> None:
        """Gives up a reserved range with nothing mapped in it."""

    def map(self, address: int, sizes: Sequence[int], descriptors: Sequence[int]) -> None:
        """Puts granules side by side under a range: all, or, if it raises, none."""

    def unmap(self, address: int, size_bytes: int) -> None:
        """Takes all of them away from under a range."""

    def synchronise(self) -> None:
        """Waits until the device does nothing any more."""

    def storage(self, address: int, size_bytes: int, keep: object) -> torch.UntypedStorage:
        """A storage over mapped bytes, at least one, that keeps `keep` alive."""


class HostSpace:
    """A `Space` over `dsfn.snapshots.owner.host.HostDevice`."""

    device_class = "cpu"
    device = torch.device("cpu")

    def reserve(self, size_bytes: int) -> int:
        """See `Space`."""
        return map_memory(0, size_bytes, 0, _NOTHING)

    def free(self, address: int, size_bytes: int) -> None:
        """See `Space`."""
        unmap_memory(address, size_bytes)

    def map(self, address: int, sizes: Sequence[int], descriptors: Sequence[int]) -> None:
        """See `Space`."""
        access, flags, at = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | FIXED, address
        try:
            for size, descriptor in zip(sizes, descriptors, strict=True):
                map_memory(at, size, access, flags, descriptor)
                at += size
        except OSError:
            self.unmap(address, sum(sizes))
            raise

    def unmap(self, address: int, size_bytes: int) -> None:
        """See `Space`. Whatever touches the range from now on ends the process."""
        map_memory(address, size_bytes, 0, _NOTHING | FIXED)

    def synchronise(self) -> None:
        """See `Space`."""

    def storage(self, address: int, size_bytes: int, keep: object) -> torch.UntypedStorage:
        """See `Space`."""
        array = (ctypes.c_char * size_bytes).from_address(address)
        array.keep = keep  # type: ignore[attr-defined]
        return torch.frombuffer(array, dtype=torch.uint8).untyped_storage()
