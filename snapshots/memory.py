"""The seam to a device's memory: where a slab is mapped, parked and brought back.

`dsfn.snapshots.cpu` maps the file itself. An implementation for a GPU reserves an
address range, puts physical memory under it and copies the slab there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch


class Slab(Protocol):
    """One slab in a device's memory. Addresses stay the same from `map` to `close`."""

    def storage(self, offset: int, size_bytes: int) -> torch.UntypedStorage:
        """A storage over these bytes of the slab's data, without a copy."""

    def park(self) -> None:
        """Gives the memory back and keeps the addresses. Nothing may be read until `unpark`;
        what was written since `map` is lost."""

    def unpark(self) -> None:
        """Puts the bytes as they were captured under the same addresses again."""

    def close(self) -> None:
        """Gives up the slab. Tensors that still live over it keep what they need."""


class Memory(Protocol):
    """A device's memory. `device_class` is "cpu" or the device's name."""

    @property
    def device_class(self) -> str:
        """The class of device that usage is billed as."""

    def map(self, path: Path, data_offset: int) -> Slab:
        """Brings the slab file `path`, whose data begins at byte `data_offset`, into memory."""
