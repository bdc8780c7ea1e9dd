"""Landlock: what files a process may touch from now on, and all that it starts.

The rules are made by a process that may do everything, and handed on as a descriptor; who is to be
held to them enters. Source: https://docs.kernel.org/userspace-api/landlock.html

`python -IS landlock.py RULES PROGRAM ARGUMENT...` enters and becomes the program, before any code
of an environment could run: so nothing of this package is imported here.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from functools import cache
from pathlib import Path
from stat import S_ISDIR

# The same numbers on every processor.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_TELL_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIRECTORY = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE = 1 << 13, 1 << 14
# Of the file system what there has been since version 1, but for devices made there.
_FIRST = (1 << 13) - 1
_SINCE = {2: _REFER, 3: _TRUNCATE}
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
# Since version 6: neither signals nor abstract sockets reach processes outside.
_SCOPED = 0b11
READ = _EXECUTE | _READ_FILE | _READ_DIRECTORY
WRITE = _FIRST | _REFER | _TRUNCATE

_libc = ctypes.CDLL(None, use_errno=True)


@cache
def version() -> int:
    """Of the kernel's Landlock; 0 where there is none, or a filter of system calls forbids it."""
    found: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _TELL_VERSION)
    return max(found, 0)


def make_rules() -> int:
    """A descriptor of rules that allow nothing yet. Raises `OSError`."""
    scoped = _SCOPED if version() >= 6 else 0
    attributes = struct.pack("=QQQ", _known(WRITE), 0, scoped)
    return _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)


def allow(rules: int, path: Path, rights: int) -> None:
    """Allows `READ` or `WRITE` of a file, or of a directory and all in it. Raises `OSError`."""
    place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_FILES
        attributes = struct.pack("=Qi", _known(rights), place)
        _call(_ADD_RULE, rules, _PATH_BENEATH, attributes, 0)
    finally:
        os.close(place)


def enter(rules: int) -> None:
    """Holds this process, which has one thread, and all that it starts to the rules, for good;
    the descriptor is closed. Raises `OSError`."""
    if _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    _call(_RESTRICT_SELF, rules, 0)
    os.close(rules)


def _known(rights: int) -> int:
    """Those of the rights that the kernel knows."""
    there = version()
    newer = sum(bit for since, bit in _SINCE.items() if there < since)
    return rights & ~newer


def _call(number: int, *arguments: object) -> int:
    found: int = _libc.syscall(number, *arguments)
    if found < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return found


if __name__ == "__main__":
    enter(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
