"""How far a copy has come: a page of shared memory that the owner writes and a worker reads.

It begins with three little-endian numbers of 64 bits: how many bytes of the slab's data have
arrived, in order from its start, the copy's `State`, and, once it has ended, the microseconds that
it took.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from enum import IntEnum

PAGE_BYTES = 4096
# In no module yet; since Linux 5.1. https://man7.org/linux/man-pages/man2/fcntl.2.html
_F_SEAL_FUTURE_WRITE = 0x10
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL | _F_SEAL_FUTURE_WRITE


class State(IntEnum):
    """What a copy is at."""

    RUNNING = 0
    DONE = 1
    FAILED = 2


class ProgressPage:
    """The owner's side. Whoever has `descriptor` can read the page, but neither write to it nor
    cut it short, which would end the owner at its next write.

    Raises `OSError`.
    """

    def __init__(self) -> None:
        assert sys.byteorder == "little"  # as every machine with a GPU
        self.descriptor = os.memfd_create("dsfn-progress", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, PAGE_BYTES)
            self._page = mmap.mmap(self.descriptor, PAGE_BYTES)
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
        except BaseException:  # it goes on; the descriptor must not stay behind
            os.close(self.descriptor)
            raise
        self._numbers = memoryview(self._page).cast("Q")

    def advance(self, arrived_bytes: int) -> None:
        """So much is there. Each number is stored whole: a reader sees the old or the new one."""
        self._numbers[0] = arrived_bytes

    def end(self, state: State, copy_us: int) -> None:
        """The copy has ended; what `advance` was told is seen before."""
        self._numbers[2] = copy_us
        self._numbers[1] = state

    def close(self) -> None:
        """Forgets the page, which lasts as long as its readers."""
        self._numbers.release()
        self._page.close()
        os.close(self.descriptor)


class ProgressReader:
    """The worker's side, of the page that `descriptor` is; it stays the caller's.

    Raises `OSError`.
    """

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, PAGE_BYTES, prot=mmap.PROT_READ)
        self._numbers = memoryview(self._page).cast("Q")

    @property
    def arrived_bytes(self) -> int:
        """How many bytes of the slab's data are there, from its start."""
        return self._numbers[0]

    @property
    def state(self) -> State:
        """Whether the copy still runs."""
        return State(self._numbers[1])

    @property
    def copy_us(self) -> int:
        """How long the copy took that has ended."""
        return self._numbers[2]

    def close(self) -> None:
        """Ends it; nothing can be read any more."""
        self._numbers.release()
        self._page.close()
