"""What the owner and the stand-in device ask of the kernel."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HUGE_PAGE_BYTES = 2 << 20
_MADV_POPULATE_WRITE = 23
_TOUCH_BYTES = 256 << 20
_TOUCH_THREADS = 8
_libc = ctypes.CDLL(None, use_errno=True)
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def unmap_memory(address: int, size_bytes: int) -> None:
    """munmap(2). Raises `OSError`."""
    if _libc.munmap(address, size_bytes) != 0:
        raise _error("munmap")


def same_memory(address: int, other: int, size_bytes: int) -> bool:
    """memcmp(3), which lets other threads run."""
    return int(_libc.memcmp(address, other, size_bytes)) == 0


def advise_huge_pages(address: int, size_bytes: int) -> None:
    """Asks for huge pages; a kernel without them goes on with small ones."""
    _libc.madvise(address, size_bytes, mmap.MADV_HUGEPAGE)


def touch(address: int, size_bytes: int) -> None:
    """Has the kernel put memory behind every page, in several threads.

    Raises `OSError` where a write to the page would end the process: no memory.
    """

    def populate(start: int) -> None:
        length = min(_TOUCH_BYTES, size_bytes - start)
        if _libc.madvise(address + start, length, _MADV_POPULATE_WRITE) != 0:
            raise _error("madvise(MADV_POPULATE_WRITE)")

    with ThreadPoolExecutor(min(_TOUCH_THREADS, os.cpu_count() or 1)) as threads:
        for _ in threads.map(populate, range(0, size_bytes, _TOUCH_BYTES)):
            pass


def available_bytes() -> int:
    """What the kernel thinks can be taken without swapping."""
    for key, value in _meminfo():
        if key == "MemAvailable":
            return value
    raise OSError("/proc/meminfo has no MemAvailable")


def free_huge_page_bytes() -> int:
    """Huge pages of 2 MiB that an administrator set aside and nobody has taken."""
    path = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    return int(path.read_text()) * HUGE_PAGE_BYTES if path.exists() else 0


def shared_huge_pages() -> bool:
    """Whether shared memory gets huge pages when it asks for them."""
    path = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
    wanted = ("[advise]", "[always]", "[within_size]", "[force]")
    return path.exists() and any(word in wanted for word in path.read_text().split())


def allow_many_descriptors() -> None:
    """Raises the limit of open files as far as this user may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _meminfo() -> Iterator[tuple[str, int]]:
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, _, value = line.partition(":")
        yield key, int(value.split()[0]) << 10


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")
