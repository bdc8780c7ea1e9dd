"""What a worker asks of the kernel and the C library: signals, memory, threads."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

_MADV_COLLAPSE = 25
_HUGE_PAGE_BYTES = 2 << 20
_STACK_BYTES = 8 << 20
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_ALLOCATION_BYTES = 32 << 20  # the most that glibc takes
_KEPT_HEAP_BYTES = 128 << 20
_libc = ctypes.CDLL(None, use_errno=True)


def kill_group(pid: int) -> None:
    """Kills a child and all that it has started; it may not lead its group yet."""
    for send in (os.killpg, os.kill):
        try:
            send(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def thread_count() -> int:
    """Threads of this process, those of C libraries included."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def uses_gpu() -> bool:
    """Whether this process has opened an NVIDIA device, as CUDA's initialisation does."""
    opened = Path("/proc/self/fd").iterdir()
    return any(os.path.realpath(link).startswith("/dev/nvidia") for link in opened)


def limit_memory(extra_bytes: int, threads: int) -> None:
    """Lets this process allocate `extra_bytes` on top of what it has now.

    It may come to have `threads` threads. Their stacks count in full, though hardly any
    of it is ever used, so those still to come are allowed for.
    """
    to_come = max(0, threads - thread_count())
    limit = _data_bytes() + extra_bytes + to_come * _STACK_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def keep_freed_memory() -> None:
    """Has the allocator reuse what large tensors leave, instead of returning it at once.

    Otherwise each activation of a vision model is mapped, faulted in page by page and
    unmapped again: thousands of page faults a call, a fifth of its time.
    """
    _libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_ALLOCATION_BYTES)
    _libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_HEAP_BYTES)


def give_memory_back() -> None:
    """Collects garbage and returns free heap pages to the kernel."""
    gc.collect()
    _libc.malloc_trim(0)


def settle_heap() -> None:
    """Makes this process quick to fork and its children cheap.

    Frozen objects are not touched by a child's collector, so their pages stay shared;
    huge pages leave the kernel a fraction of the page table entries to copy (fork takes
    half as long). Where the kernel has none, they are left out.
    """
    give_memory_back()
    gc.freeze()
    for start, end in _anonymous_ranges():
        first = -(-start // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
        length = end // _HUGE_PAGE_BYTES * _HUGE_PAGE_BYTES - first
        if length > 0:
            _libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), _MADV_COLLAPSE)


def _anonymous_ranges() -> Iterator[tuple[int, int]]:
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, permissions, _, _, inode, *name = line.split(maxsplit=5)
        if permissions == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            start, end = addresses.split("-")
            yield int(start, 16), int(end, 16)


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) << 10
    raise OSError("/proc/self/status has no VmData")
