"""Goes on from an image, in the place of the program that asks.

What an image has in memory is mapped, at the addresses where it was: of files, and of the image
for what differs, so that nothing is read before it is used and processes share what they do not
write to. In the end machine code takes what was here before out of memory, tells the kernel where
the thread has its own, and jumps. The kernel gives these rights to everybody.

A process that goes on from an image begins with this: nothing large is imported here.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping, Sequence
from struct import pack

from dsfn.snapshots.process.image import Message, Region, Thread, Unfit, check, read_head, tell
from dsfn.snapshots.process.machine import (
    ANONYMOUS,
    ARCH_GET_FS,
    ARCH_PRCTL,
    ARCH_SET_FS,
    CLOSE,
    EXECUTE,
    FIXED,
    FIXED_NO_REPLACE,
    MADVISE,
    MMAP,
    MUNMAP,
    NO_RESERVE,
    PRCTL,
    PRIVATE,
    READ,
    RSEQ,
    SET_ROBUST_LIST,
    SET_TID_ADDRESS,
    WRITE,
    Routines,
    libc,
    map_memory,
    protect,
)
from dsfn.snapshots.process.vdso import functions_of, jumps

# A stack grows as far by itself; here the kernel does not know that it is one.
_STACK_ROOM_BYTES = 8 << 20
_MADV_WIPEONFORK = 18
_PR_SET_MM, _PR_SET_MM_MAP, _PR_SET_MM_MAP_SIZE = 35, 14, 15
_RSEQ_BYTES, _RSEQ_SIGNATURE, _RSEQ_UNREGISTER = 32, 0x53053053, 1
_ROBUST_LIST_BYTES = 24
# The kernel's own, and the stack that its command line is on.
_STAYING = ("[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]", "[stack]")

# Of what this process has in memory: begin, size, name.
Mapped = tuple[int, int, str]
# A system call: its number and its arguments.
Call = tuple[int, ...]


class Image:
    """An image that fits this machine and this process's environment, open until `close`."""

    def __init__(self, path: str, environ: Mapping[str, str]) -> None:
        """Raises `OSError`, `Unfit`."""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._files: dict[str, int] = {}
        try:
            self._head = read_head(self._file)
            check(self._head, environ)
        except BaseException:
            self.close()
            raise

    @property
    def words(self) -> Mapping[str, object]:
        """What whoever made it says of it."""
        words = self._head["words"]
        assert isinstance(words, dict)
        return words

    def close(self) -> None:
        """Gives the descriptors back."""
        for each in (*self._files.values(), self._file):
            os.close(each)

    def go_on(self, message: Message) -> None:
        """Has this process be the image's, which is told this. It comes back only by raising
        `OSError` or `Unfit`: all is then as it was, but for addresses that are taken."""
        regions, thread = self._regions(), self._thread()
        # Before what is here is listed: later it might come to be where something of that was.
        routines = Routines()
        here = list(_mapped_beside(routines))
        # The kernel draws where a process has its memory. But a program may be made for one
        # address, and has its heap near it: the image's comes when what is there has gone.
        late = [each for each in regions if _is_taken(each, here)]
        for each in regions:
            if each not in late:
                self._map(each)
        _check_apart(thread, late)
        _make_clock_known(regions, here)
        ctypes.memmove(thread.number, pack("<i", os.getpid()), 4)
        bounds = pack("<11QQIi", *thread.bounds, 0, 0, -1)
        routines.tell(bounds)
        if any(_overlap(each, routines.begin, routines.size) for each in late):
            raise Unfit("its addresses are taken")
        _check_rights(bounds)
        calls = [
            *_leaving(thread, here),
            # Whatever has come to be there since it was looked at, such as more of a heap, goes.
            *(call for each in late for call in self._calls(each, FIXED)),
            *_arriving(thread, routines.told, len(bounds)),
            *((CLOSE, each) for each in (*self._files.values(), self._file)),
        ]
        told = tell(message)
        try:
            routines.thaw(calls, thread.registers, told)
        finally:
            os.close(told)

    def _regions(self) -> list[Region]:
        found = self._head["regions"]
        assert isinstance(found, list)
        return [Region(*each) for each in found]

    def _thread(self) -> Thread:
        found = self._head["thread"]
        assert isinstance(found, tuple)
        return Thread(*found)

    def _map(self, region: Region) -> None:
        """Maps a region with its pages. Raises `OSError`."""
        for number, *arguments in self._calls(region, FIXED_NO_REPLACE):
            if number == MMAP:
                map_memory(*arguments)
            elif libc.madvise(*arguments) != 0:
                raise OSError(ctypes.get_errno(), "madvise")
        if region.kind == "stack":
            # The kernel shows a command line from memory that is no file's alone.
            for at, length, place in region.kept:
                ctypes.memmove(at, os.pread(self._file, length, place), length)

    def _calls(self, region: Region, fixed: int) -> Iterator[Call]:
        """What maps a region with its pages. `fixed`: what becomes of anything that is there."""
        protection = READ | WRITE if region.kind == "vdso" else region.protection
        begin, size = _reach(region)
        flags, file = PRIVATE | fixed | NO_RESERVE, -1
        if region.file:
            file = self._opened(region.file)
        else:
            flags |= ANONYMOUS
        yield MMAP, begin, size, protection, flags, file, region.offset
        if region.kind == "wiped":
            yield MADVISE, begin, size, _MADV_WIPEONFORK
        for at, length, place in () if region.kind == "stack" else region.kept:
            yield MMAP, at, length, protection, PRIVATE | FIXED, self._file, place

    def _opened(self, path: str) -> int:
        if path not in self._files:
            self._files[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._files[path]


def _mapped() -> Iterator[Mapped]:
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            addresses, _, _, _, _, *rest = line.split(None, 5)
            begin, _, end = addresses.partition("-")
            yield int(begin, 16), int(end, 16) - int(begin, 16), rest[0].strip() if rest else ""


def _mapped_beside(routines: Routines) -> Iterator[Mapped]:
    """All but the routines, which take it away; the kernel may show them as one with what is next
    to them."""
    begin, end = routines.begin, routines.begin + routines.size
    for at, size, name in _mapped():
        if at < begin:
            yield at, min(size, begin - at), name
        if at + size > end:
            yield max(at, end), at + size - max(at, end), name


def _reach(region: Region) -> tuple[int, int]:
    """Its begin and size, with a stack's room to grow."""
    room = _STACK_ROOM_BYTES if region.kind == "stack" else 0
    return region.begin - room, region.size + room


def _overlap(region: Region, begin: int, size: int) -> bool:
    own_begin, own_size = _reach(region)
    return own_begin < begin + size and begin < own_begin + own_size


def _is_taken(region: Region, here: Sequence[Mapped]) -> bool:
    """Whether something is there that will go. Raises `Unfit` for what stays."""
    found = [name for begin, size, name in here if _overlap(region, begin, size)]
    if any(name in _STAYING for name in found):
        raise Unfit("its addresses are taken")
    return bool(found)


def _check_apart(thread: Thread, late: Sequence[Region]) -> None:
    """What is written to now must be there. Raises `Unfit`."""
    for each in late:
        if each.kind in ("vdso", "stack") or _overlap(each, thread.number, 4):
            raise Unfit("its addresses are taken")


def _make_clock_known(regions: Sequence[Region], here: Sequence[Mapped]) -> None:
    """Has the image find the kernel's own functions of this process. Raises `OSError`, `Unfit`."""
    old = next(each for each in regions if each.kind == "vdso")
    begin, size = next((begin, size) for begin, size, name in here if name == "[vdso]")
    library = ctypes.string_at(old.begin, old.size)
    found = list(jumps(library, ctypes.string_at(begin, size), begin))
    if len(found) != len(functions_of(library)):
        raise Unfit("the kernel has other functions")
    for offset, code in found:
        ctypes.memmove(old.begin + offset, code, len(code))
    protect(old.begin, old.size, READ | EXECUTE)


def _check_rights(bounds: bytes) -> None:
    """What would fail for want of a right fails here, where all is as it was. Raises `OSError`."""
    size = ctypes.c_uint()
    if libc.prctl(_PR_SET_MM, _PR_SET_MM_MAP_SIZE, ctypes.byref(size), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_MM)")
    if size.value != len(bounds):
        raise Unfit("the kernel wants to know something else of a process's memory")


def _leaving(thread: Thread, here: Sequence[Mapped]) -> Iterator[Call]:
    """What takes this process away."""
    own = ctypes.c_uint64()
    libc.syscall(ARCH_PRCTL, ARCH_GET_FS, ctypes.byref(own))
    if thread.rseq_bytes:
        rseq = own.value + ctypes.c_ssize_t.in_dll(libc, "__rseq_offset").value
        yield RSEQ, rseq, _RSEQ_BYTES, _RSEQ_UNREGISTER, _RSEQ_SIGNATURE
    for begin, size, name in here:
        if name not in _STAYING:
            yield MUNMAP, begin, size


def _arriving(thread: Thread, bounds: int, bounds_bytes: int) -> Iterator[Call]:
    """What the kernel is to know of the image's process and its thread."""
    yield ARCH_PRCTL, ARCH_SET_FS, thread.own
    if thread.rseq_bytes:
        yield RSEQ, thread.rseq, _RSEQ_BYTES, 0, _RSEQ_SIGNATURE
    yield SET_TID_ADDRESS, thread.number
    yield SET_ROBUST_LIST, thread.robust, _ROBUST_LIST_BYTES
    yield PRCTL, _PR_SET_MM, _PR_SET_MM_MAP, bounds, bounds_bytes, 0
