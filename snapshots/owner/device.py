"""The seam to a device: what the owner asks of a GPU, and of the stand-in for tests.

`dsfn.snapshots.owner.cuda` is a GPU; `dsfn.snapshots.owner.host` is host memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dsfn.functions.values import dataclass

GRANULARITY_BYTES = 2 << 20


def whole_granules(size_bytes: int) -> int:
    """The size of memory that a device can give, and that so much fits in."""
    return size_bytes + -size_bytes % GRANULARITY_BYTES


@dataclass(frozen=True, slots=True, eq=False)
class Granule:
    """A piece of a device's physical memory: `fd` is it for other processes, and at `address`
    it is mapped in this one."""

    size_bytes: int
    fd: int
    address: int


class Device(Protocol):
    """One device. `use` makes it the calling thread's, which `register` and the copies need."""

    @property
    def device_class(self) -> str:
        """The device's name."""

    def use(self) -> None:
        """Readies the calling thread."""

    def register(self, address: int, size_bytes: int) -> None:
        """Pins host memory, so that copies from it need no help. Raises `DeviceFault`."""

    def memory(self) -> tuple[int, int]:
        """Bytes that can still be taken, and bytes in all."""

    def reaches(self, other: Device) -> bool:
        """Whether this device can write to the other's memory faster than over the links that
        both have to the host."""

    def share_with(self, peers: Sequence[Device]) -> None:
        """Lets these devices read and write what `create` makes from now on."""

    def create(self, size_bytes: int) -> Granule:
        """New memory, a multiple of `GRANULARITY_BYTES`, that holds nobody's data.

        Raises `MemoryFull`, `DeviceFault`.
        """

    def destroy(self, granule: Granule) -> None:
        """Gives memory back; it is free when no other process has it mapped either."""

    def upload(self, target: int, source: int, size_bytes: int) -> object:
        """Begins a copy from registered host memory; what comes back is for `wait`.

        Uploads, and the first halves of relays, end in the order in which they began.
        """

    def relay(self, target: int, place: int, source: int, size_bytes: int) -> object:
        """Begins a copy from registered host memory to `place`, in memory of this device, and
        from there to a peer's; what comes back is for `wait`."""

    def transfer(self, target: int, source: int, size_bytes: int) -> object:
        """Begins a copy to memory of this device from a peer's or its own; what comes back is
        for `wait`."""

    def download(self, target: int, source: int, size_bytes: int) -> None:
        """Copies to registered host memory, and waits for it. Raises `DeviceFault`."""

    def wait(self, event: object, urgent: bool = False) -> None:
        """Waits until a copy has ended. Once for each copy. Raises `DeviceFault`.

        An `urgent` wait notices at once, and keeps a core busy for it.
        """
