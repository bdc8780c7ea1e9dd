"""Writes an image of this process, from which others go on.

A child is forked and stops itself in machine code; its memory is read from outside, and written
down as far as it differs from the files that are mapped. What a process has beside its memory is
not in an image: open files, threads other than the one that asks, signals' handlers, limits.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from struct import unpack, unpack_from
from typing import NoReturn

from dsfn.functions.values import dataclass
from dsfn.snapshots.process.image import (
    HEAD_BYTES,
    Message,
    Region,
    Thread,
    Unfit,
    hear,
    identity,
    read_at_load,
    write_head,
)
from dsfn.snapshots.process.machine import (
    GET_ROBUST_LIST,
    REGISTERS_BYTES,
    THREAD_AT,
    Routines,
    is_known,
    libc,
)
from dsfn.snapshots.process.memory import Memory, Stretch, stretches
from dsfn.snapshots.process.vdso import functions_of

STOP_TIMEOUT_S = 10.0
# As much of the C library's own of a thread is searched for its number: `struct pthread`.
_THREAD_BYTES = 0x900
# Where proc_pid_stat(5) has what prctl(PR_SET_MM_MAP) wants, the end of the heap aside.
_BOUNDS = (26, 27, 45, 46, 47, 28, 48, 49, 50, 51)
_HEAP_AT = 5
_STANDARD = 2


@dataclass(frozen=True, slots=True)
class About:
    """What an image's head says beside its memory: `environ`, what this process was started with,
    `files` that have to be the same where it is used, and `words` for whoever uses it."""

    environ: Mapping[str, str]
    files: Collection[str]
    words: Mapping[str, object]


def checkpoint(path: Path, about: About) -> Message | None:
    """Writes an image of this process to `path`, whole or not at all. None; in a process that goes
    on from it, what that one was told; one that is told nothing proves that it goes on, and ends.

    Raises `OSError`, and `Unfit` where there can be no image of this process, or on this machine.
    """
    if not is_known():
        raise Unfit("there are images of processes on x86-64 and Linux alone")
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise Unfit("it has threads, which would be gone")
    if is_open := _open_files():
        raise Unfit(f"it has files open: {', '.join(is_open)}")
    registers = ctypes.create_string_buffer(REGISTERS_BYTES)
    routines = Routines()
    waiting, never = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(never)
        told = hear(routines.freeze(ctypes.addressof(registers), waiting))
        if not told:
            _prove()
        return told
    try:
        _wait_until_stopped(pid, waiting)
        _write(path, pid, ctypes.addressof(registers), about)
    finally:
        os.close(waiting)
        os.close(never)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return None


def unfinished(path: Path) -> Path:
    """Where an image is written until it is whole; it stays there where its maker is killed."""
    return path.with_name(f".{path.name}.new")


def _prove() -> NoReturn:
    """Ends this process as one that has gone on should: see `dsfn.snapshots.process.proof`."""
    time.time()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _open_files() -> list[str]:
    """What only this process has, its standard streams aside: their numbers are others' in another
    one, which would close those."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the directory itself has been closed
            if int(each.name) > _STANDARD:
                found.append(str(each.readlink()))
    return found


def _wait_until_stopped(pid: int, waiting: int) -> None:
    """Returns once the child is in its system call: read(2), number 0, of this descriptor."""
    call, end_s = Path(f"/proc/{pid}/syscall"), time.monotonic() + STOP_TIMEOUT_S
    while call.read_text(encoding="ascii").split()[:2] != ["0", hex(waiting)]:
        if time.monotonic() > end_s:
            raise Unfit("the process does not stop")
        time.sleep(0.001)


def _write(path: Path, pid: int, registers: int, about: About) -> None:
    fresh = unfinished(path)
    memory = Memory(pid)
    try:
        with fresh.open("wb") as file:
            file.seek(HEAD_BYTES)
            regions = [_region(each, memory, file.write, file.tell) for each in stretches(pid)]
            file.flush()
            mapped = {each.file for each in regions} - {""}
            head = {
                "identity": identity({*mapped, *about.files}, _packages()),
                "environment": read_at_load(about.environ),
                "regions": [tuple(each) for each in regions],
                "thread": tuple(_thread(pid, registers, memory)),
                "words": dict(about.words),
            }
            write_head(file.fileno(), head)
        fresh.chmod(0o644)
        fresh.replace(path)
    finally:
        memory.close()
        fresh.unlink(missing_ok=True)


def _region(
    stretch: Stretch,
    memory: Memory,
    write: Callable[[bytes], int],
    tell: Callable[[], int],
) -> Region:
    """A stretch, with its pages written to the image."""
    kept, kind = [], {"[vdso]": "vdso", "[stack]": "stack"}.get(stretch.name, "")
    if stretch.is_wiped:
        pieces, kind = [], "wiped"
    elif kind == "vdso":
        pieces = [(stretch.begin, stretch.end)]
        if not functions_of(memory.read(stretch.begin, stretch.end - stretch.begin)):
            raise Unfit("the kernel's own library is of an unknown kind")
    else:
        pieces = memory.own(stretch) if stretch.protection else []
    for begin, end in pieces:
        kept.append((begin, end - begin, tell()))
        write(memory.read(begin, end - begin))
    return Region(
        stretch.begin,
        stretch.end - stretch.begin,
        stretch.protection,
        stretch.file,
        stretch.offset,
        kind,
        tuple(kept),
    )


def _thread(pid: int, registers: int, memory: Memory) -> Thread:
    """Raises `OSError`, `Unfit`."""
    try:
        rseq_offset = ctypes.c_ssize_t.in_dll(libc, "__rseq_offset").value
        rseq_bytes = ctypes.c_uint.in_dll(libc, "__rseq_size").value
        heap_end = ctypes.addressof(ctypes.c_void_p.in_dll(libc, "__curbrk"))
    except ValueError:
        raise Unfit("the C library is none of glibc from 2.35 on") from None
    (own,) = unpack("<Q", memory.read(registers + THREAD_AT, 8))
    beside = memory.read(own, _THREAD_BYTES)
    numbers = [at for at in range(0, len(beside), 4) if unpack_from("<i", beside, at)[0] == pid]
    if len(numbers) != 1:
        raise Unfit("the C library keeps the number of a thread in an unknown place")
    robust, size = ctypes.c_void_p(), ctypes.c_size_t()
    if libc.syscall(GET_ROBUST_LIST, pid, ctypes.byref(robust), ctypes.byref(size)) != 0:
        raise OSError(ctypes.get_errno(), "get_robust_list")
    rseq = own + rseq_offset
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    bounds = [int(stat[each - 3]) for each in _BOUNDS]
    bounds.insert(_HEAP_AT, unpack("<Q", memory.read(heap_end, 8))[0])
    return Thread(registers, own, own + numbers[0], robust.value, rseq, rseq_bytes, tuple(bounds))


def _packages() -> set[str]:
    """The directories that say which packages are installed, and which versions of them, of those
    whose modules are imported."""
    imported = {name.partition(".")[0] for name in list(sys.modules)}
    records = (record for place in sys.path for record in Path(place).glob("*.dist-info/RECORD"))
    return {str(each.parent) for each in records if imported & _modules_of(each)}


def _modules_of(record: Path) -> set[str]:
    """Of a package's list of files, what they can be imported as; the rest does no harm."""
    lines = record.read_text(encoding="utf-8").splitlines()
    return {line.partition(",")[0].partition("/")[0].partition(".")[0] for line in lines}
