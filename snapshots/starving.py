"""Memory for a proof: slabs whose bytes come when they are waited for, and not one more."""

from __future__ import annotations

import mmap
from itertools import cycle
from pathlib import Path

import torch

from dsfn.snapshots.format import SlabEntry
from dsfn.snapshots.memory import Memory, Slab

# The one makes floating-point numbers NaN and indices -1, the other next to zero and absurd.
_POISONS = (0xFF, 0x80)
_undispatched = torch._C._DisableTorchDispatch  # kept: a gate that is shut waits at this name


class StarvingSlab:
    """A `Slab` over `inner`, which has all its bytes, and its own `Arrival`: what nobody has
    waited for is overwritten with poison, another one each time that it comes back."""

    def __init__(self, inner: Slab, path: Path, data_offset: int) -> None:
        self._inner = inner
        self._data_offset = data_offset
        with path.open("rb") as file:
            self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.size_bytes = len(self._file) - data_offset
        storage = inner.storage(0, self.size_bytes)
        bits = torch.empty(0, dtype=torch.uint8, device=storage.device)
        self._memory = bits.set_(storage, 0, (self.size_bytes,), (1,))
        self.address = self._memory.data_ptr()
        self.arrived_bytes = 0
        self._is_parked = True
        self._poisons = cycle(_POISONS)
        self.begin_unpark()

    @property
    def arrival(self) -> StarvingSlab | None:
        """See `dsfn.snapshots.memory.Slab`."""
        return self if not self._is_parked and self.arrived_bytes < self.size_bytes else None

    def storage(self, offset: int, size_bytes: int) -> torch.UntypedStorage:
        """See `dsfn.snapshots.memory.Slab`."""
        return self._inner.storage(offset, size_bytes)

    def park(self) -> None:
        """See `dsfn.snapshots.memory.Slab`. The memory stays; what was in it is gone."""
        self._is_parked = True

    def begin_unpark(self) -> None:
        """See `dsfn.snapshots.memory.Slab`."""
        if self._is_parked:
            self._memory.fill_(next(self._poisons))
            self._synchronise()
            self.arrived_bytes = 0
            self._is_parked = False

    def unpark(self) -> None:
        """See `dsfn.snapshots.memory.Slab`."""
        self.begin_unpark()
        self.wait(self.size_bytes)

    def is_intact(self) -> bool:
        """See `dsfn.snapshots.memory.Slab`."""
        self.wait(self.size_bytes)
        return self._inner.is_intact()

    def close(self) -> None:
        """See `dsfn.snapshots.memory.Slab`."""
        del self._memory
        self._inner.close()

    def wait(self, end_bytes: int) -> int:
        """See `dsfn.snapshots.memory.Arrival`: brings them."""
        start = self.arrived_bytes
        if end_bytes > start:
            with _undispatched():  # whoever waits may watch what torch does
                source = torch.frombuffer(
                    self._file,
                    dtype=torch.uint8,
                    offset=self._data_offset + start,
                    count=end_bytes - start,
                )
                self._memory[start:end_bytes].copy_(source)
            self._synchronise()
            self.arrived_bytes = end_bytes
        return self.arrived_bytes

    def _synchronise(self) -> None:
        if self._memory.is_cuda:
            torch.cuda.synchronize(self._memory.device)


class StarvingMemory:
    """A `Memory` in place of `inner`."""

    def __init__(self, inner: Memory) -> None:
        self._inner = inner

    @property
    def device_class(self) -> str:
        """See `dsfn.snapshots.memory.Memory`."""
        return self._inner.device_class

    def map(self, directory: Path, entry: SlabEntry) -> StarvingSlab:
        """See `dsfn.snapshots.memory.Memory`. Raises as the inner one does."""
        slab = self._inner.map(directory, entry)
        slab.unpark()
        return StarvingSlab(slab, directory / entry.file, entry.data_offset)
