"""The seam to a device's memory: where a slab is mapped, parked and brought back.

`dsfn.snapshots.cpu` maps the file itself. An implementation for a GPU reserves an
address range, puts physical memory under it and copies the slab there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch

from dsfn.snapshots.format import SlabEntry


class Arrival(Protocol):
    """A slab's bytes on their way into memory, in order from its start."""

    @property
    def address(self) -> int:
        """Where the slab's data begins."""

    @property
    def size_bytes(self) -> int:
        """How many bytes will have come."""

    @property
    def arrived_bytes(self) -> int:
        """How many are there."""

    def wait(self, end_bytes: int) -> int:
        """Waits, on the host, until the first `end_bytes` are there: how many are then.

        Raises `OwnerLost`, `DeviceFault`; the rest will never come then.
        """


class Slab(Protocol):
    """One slab in a device's memory. Addresses stay the same from `map` to `close`."""

    @property
    def arrival(self) -> Arrival | None:
        """What is on its way since `map` or `begin_unpark`; None when all is there or parked."""

    def storage(self, offset: int, size_bytes: int) -> torch.UntypedStorage:
        """A storage over these bytes of the slab's data, without a copy."""

    def park(self) -> None:
        """Gives the memory back and keeps the addresses. Nothing may be read until `unpark`;
        what was written since `map` is lost, what was on its way is called off."""

    def begin_unpark(self) -> None:
        """Has the bytes as they were captured come under the same addresses again. Only what
        `arrival` says is there may be touched before `unpark`."""

    def unpark(self) -> None:
        """The same, and waits until all bytes are there. At once if they are."""

    def is_intact(self) -> bool:
        """Whether each byte in memory is the one that was captured, as the manifest knows it.
        Takes as long as hashing them, and waits for what is on its way.

        Raises `SnapshotError` where that cannot be told, `MemoryFull` when the host has too
        little to look, `OwnerLost`, `DeviceFault`.
        """

    def close(self) -> None:
        """Gives up the slab. Tensors that still live over it keep what they need."""


class Memory(Protocol):
    """A device's memory. `device_class` is "cpu" or the device's name."""

    @property
    def device_class(self) -> str:
        """The class of device that usage is billed as."""

    def map(self, directory: Path, entry: SlabEntry) -> Slab:
        """Has the slab of which the manifest in `directory` says `entry` come into memory: see
        `Slab.begin_unpark`."""
