"""Memory of the CPU: the slab file is mapped, and every process shares its pages."""

from __future__ import annotations

import mmap
import os
from hashlib import sha256
from pathlib import Path

import torch

from dsfn.snapshots.format import SlabEntry

_MAP_NORESERVE = 0x4000  # Linux on x86 and Arm; the mmap module has no name for it


class CpuSlab:
    """A private mapping of a slab file: a page is shared by all until somebody writes to it.

    Nothing is ever on its way: whoever reads a page first waits for the kernel to bring it.
    """

    arrival = None

    def __init__(self, path: Path, entry: SlabEntry) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # NORESERVE: weights are hardly ever written, so they must not count as committed.
            self._mapping = mmap.mmap(
                fd,
                0,
                flags=mmap.MAP_PRIVATE | _MAP_NORESERVE,
                prot=mmap.PROT_READ | mmap.PROT_WRITE,
            )
        finally:
            os.close(fd)
        self._entry = entry

    def storage(self, offset: int, size_bytes: int) -> torch.UntypedStorage:
        """See `dsfn.snapshots.memory.Slab`. The storage keeps the mapping alive."""
        if not size_bytes:
            return torch.UntypedStorage(0)  # type: ignore[no-untyped-call]  # torch leaves it so
        return torch.frombuffer(
            self._mapping,
            dtype=torch.uint8,
            count=size_bytes,
            offset=self._entry.data_offset + offset,
        ).untyped_storage()

    def park(self) -> None:
        """Drops the pages: private copies end, and a later read finds the file's bytes."""
        self._mapping.madvise(mmap.MADV_DONTNEED)

    def begin_unpark(self) -> None:
        """Asks for the file's pages ahead of their use."""
        self._mapping.madvise(mmap.MADV_WILLNEED)

    def unpark(self) -> None:
        """See `dsfn.snapshots.memory.Slab`."""
        self.begin_unpark()

    def is_intact(self) -> bool:
        """See `dsfn.snapshots.memory.Slab`: of the mapping, with the pages that were written to."""
        return sha256(self._mapping).hexdigest() == self._entry.digest

    def close(self) -> None:
        """Drops the pages; the mapping itself ends with the last tensor over it."""
        self._mapping.madvise(mmap.MADV_DONTNEED)


class CpuMemory:
    """Maps slabs into this process."""

    device_class = "cpu"

    def map(self, directory: Path, entry: SlabEntry) -> CpuSlab:
        """See `dsfn.snapshots.memory.Memory`."""
        slab = CpuSlab(directory / entry.file, entry)
        slab.begin_unpark()
        return slab
