"""The seam to a device: what the owner asks of a GPU, and of the stand-in for tests.

`dsfn.snapshots.owner.cuda` is a GPU; `dsfn.snapshots.owner.host` is host memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

GRANULARITY_BYTES = 2 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Granule:
    """A piece of a device's physical memory: `fd` is it for other processes, and at `address`
    it is mapped in this one."""

    size_bytes: int
    fd: int
    address: int


class Device(Protocol):
    """One device. `use` makes it the calling thread's; all others need that."""

    @property
    def device_class(self) -> str:
        """The device's name."""

    def use(self) -> None:
        """Readies the calling thread."""

    def register(self, address: int, size_bytes: int) -> None:
        """Pins host memory, so that copies from it need no help. Raises `DeviceFault`."""

    def memory(self) -> tuple[int, int]:
        """Bytes that can still be taken, and bytes in all."""

    def create(self, size_bytes: int) -> Granule:
        """New memory, a multiple of `GRANULARITY_BYTES`, that holds nobody's data.

        Raises `MemoryFull`, `DeviceFault`.
        """

    def destroy(self, granule: Granule) -> None:
        """Gives memory back; it is free when no other process has it mapped either."""

    def copy(self, target: int, source: int, size_bytes: int) -> object:
        """Begins a copy from registered host memory; what comes back is for `wait`."""

    def wait(self, copy: object) -> None:
        """Waits until a copy has ended. Once for each copy. Raises `DeviceFault`."""
