"""Which of a file's pages are in the machine's memory."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def evict(path: Path) -> None:
    """Has the kernel forget a file's pages, once they are on the disk. Others' mappings keep
    theirs, and a file system that is in memory all of them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def resident_share(path: Path) -> float:
    """Which share of a file's pages is in memory, by mincore(2), which brings none there."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        pages = ctypes.create_string_buffer(-(-len(mapped) // mmap.PAGESIZE))
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        if _libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(mapped)), pages) != 0:
            raise OSError(ctypes.get_errno(), "mincore")
        return sum(byte & 1 for byte in pages.raw) / len(pages)
