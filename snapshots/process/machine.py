"""What no Python does: stop a process where it is, and go on there in another one.

The machine code is that of `machine_code.s`, for x86-64 and Linux. Nothing large is imported here:
a process that goes on from an image begins with this.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Sequence
from struct import pack

PAGE_BYTES = 4096
# `freeze` writes ten words here, and reads a byte after them.
REGISTERS_BYTES = 88
# Where the address of the thread's own memory is among them.
THREAD_AT = 64

# Of asm/unistd_64.h.
CLOSE = 3
MMAP = 9
MUNMAP = 11
MADVISE = 28
PRCTL = 157
ARCH_PRCTL = 158
SET_TID_ADDRESS = 218
SET_ROBUST_LIST = 273
GET_ROBUST_LIST = 274
RSEQ = 334
ARCH_SET_FS = 0x1002
ARCH_GET_FS = 0x1003

READ, WRITE, EXECUTE = 1, 2, 4
PRIVATE, FIXED, ANONYMOUS, NO_RESERVE, FIXED_NO_REPLACE = 0x2, 0x10, 0x20, 0x4000, 0x100000

CODE = bytes.fromhex(
    "48891f48896f084c8967104c896f184c8977204c897f28488d44240848894730488b042448894738"
    "64488b042500000000488947400fae5f48d97f4c89f0488d775089c7ba0100000031c00f0531ffb8"
    "e70000000f05662e0f1f8400000000004889fb4889f54989d44989cd4885ed7439488b03488b7b08"
    "488b7310488b53184c8b53204c8b43284c8b4b300f05483d01f0ffff73094883c33848ffcdebcdf7"
    "d889c7b8e70000000f054c89e24c89e80fae5248d96a4c488b1a488b6a084c8b62104c8b6a184c8b"
    "72204c8b7a28488b6230ff6238"
)
_THAW_AT = 0x60
_WORDS_OF_A_CALL = 7
# Some hundred, or a few thousand where a program's heap is in the way.
_CALLS_BYTES = 1 << 18
_TOLD_BYTES = PAGE_BYTES

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.syscall.restype = ctypes.c_long


def is_known() -> bool:
    """Whether there is machine code for this machine."""
    return sys.platform == "linux" and os.uname().machine == "x86_64" and sys.maxsize > 1 << 32


def map_memory(
    address: int | None, size: int, protection: int, flags: int, file: int = -1, offset: int = 0
) -> int:
    """See mmap(2). The address. Raises `OSError`."""
    found: int | None = libc.mmap(address, size, protection, flags, file, offset)
    if found is None or found == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    return found


def protect(address: int, size: int, protection: int) -> None:
    """See mprotect(2). Raises `OSError`."""
    if libc.mprotect(address, size, protection) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


class Routines:
    """The machine code in this process's memory, with room for system calls, and what these are
    `told`. It stays there."""

    def __init__(self) -> None:
        """Raises `OSError`."""
        self.size = PAGE_BYTES + _CALLS_BYTES + _TOLD_BYTES
        self.begin = map_memory(None, self.size, READ | WRITE, PRIVATE | ANONYMOUS)
        self._calls = self.begin + PAGE_BYTES
        self.told = self._calls + _CALLS_BYTES
        ctypes.memmove(self.begin, CODE, len(CODE))
        protect(self.begin, PAGE_BYTES, READ | EXECUTE)

    def tell(self, what: bytes) -> None:
        """Has this be where system calls find it."""
        ctypes.memmove(self.told, what, len(what))

    def freeze(self, registers: int, descriptor: int) -> int:
        """Writes the registers to this address and waits for the descriptor, at whose end the
        process ends. Returns only in a process that goes on from an image of this one."""
        # Of a PYFUNCTYPE the thread keeps the interpreter: in the image it has it.
        kind = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_int)
        told: int = kind(self.begin)(registers, descriptor)
        return told

    def thaw(self, calls: Sequence[tuple[int, ...]], registers: int, result: int) -> None:
        """Makes these system calls and goes on where `freeze` was called, in which it returns
        `result`. It never returns here. Raises `OSError` for too many."""
        rows = [pack("<7Q", *_unsigned(each)) for each in calls]
        table = b"".join(rows)
        if len(table) > _CALLS_BYTES:
            raise OSError(errno.E2BIG, f"{len(calls)} system calls are too many")
        ctypes.memmove(self._calls, table, len(table))
        kind = ctypes.PYFUNCTYPE(
            ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_long
        )
        kind(self.begin + _THAW_AT)(self._calls, len(calls), registers, result)


def _unsigned(call: Sequence[int]) -> list[int]:
    """A system call as seven words: its number, its arguments, zeros."""
    words = [each & 0xFFFF_FFFF_FFFF_FFFF for each in call]
    return words + [0] * (_WORDS_OF_A_CALL - len(words))
