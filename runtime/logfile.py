"""One function's log on disk: lines of JSON, appended, rotated, read back and followed.

`current.jsonl` becomes `previous.jsonl` when it would grow over `ROTATE_BYTES`,
so that a function's log takes at most twice that. A file only ever holds whole
lines; a write that the disk or a `kill -9` cut short is cut off again.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from dsfn.runtime.clock import rfc3339

ROTATE_BYTES = 8 << 20
POLL_S = 0.2
_READ_BYTES = 256 << 10
_TIME_AT = len('{"time":"')
_CURRENT, _PREVIOUS = "current.jsonl", "previous.jsonl"


class LogFile:
    """The writing end. It never raises: what cannot be written is counted in `dropped_lines`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd: int | None = None
        self._size_bytes = 0
        self.dropped_lines = 0

    def append(self, lines: bytes) -> None:
        """Writes whole lines."""
        try:
            self._write(lines)
        except OSError:
            # A function goes on when the disk is full; its output is what can be spared.
            self.dropped_lines += lines.count(b"\n")
            self.close()

    def close(self) -> None:
        """Closes the file; the next append opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self, lines: bytes) -> None:
        if self._size_bytes and self._size_bytes + len(lines) > ROTATE_BYTES:
            self.close()
            (self._directory / _CURRENT).replace(self._directory / _PREVIOUS)
        if self._fd is None:
            self._fd, self._size_bytes = _open_to_append(self._directory)
        if os.write(self._fd, lines) < len(lines):
            os.ftruncate(self._fd, self._size_bytes)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size_bytes += len(lines)


def read_log(directory: Path, since_us: int) -> Iterator[bytes]:
    """The whole lines from the first one printed at `since_us` or later, in chunks."""
    with ExitStack() as files:
        cut = _Since(since_us)
        for file in _open_all(directory, files):
            yield from _chunks(file, cut)


async def follow_log(
    directory: Path, since_us: int, goes_on: Callable[[], bool]
) -> AsyncGenerator[bytes, None]:
    """Like `read_log`, then what is appended, for as long as it goes on."""
    cut, last = _Since(since_us), -1
    while goes_on():
        with ExitStack() as files:
            unread = [f for f in _open_all(directory, files) if os.fstat(f.fileno()).st_ino != last]
            for file in unread:
                for chunk in _chunks(file, cut):
                    yield chunk
            if unread:
                last = os.fstat(unread[-1].fileno()).st_ino
                async for chunk in _tail(directory / _CURRENT, unread[-1], cut, goes_on):
                    yield chunk
        await asyncio.sleep(POLL_S)


async def _tail(
    path: Path, file: BinaryIO, cut: _Since, goes_on: Callable[[], bool]
) -> AsyncGenerator[bytes, None]:
    """What is appended to `file`, until another one has taken its place at `path`."""
    inode, is_current = os.fstat(file.fileno()).st_ino, True
    while is_current and goes_on():
        await asyncio.sleep(POLL_S)
        # Asked before reading: nothing is appended to a file after its place was taken.
        is_current = path.exists() and path.stat().st_ino == inode
        for chunk in _chunks(file, cut):
            yield chunk


def _chunks(file: BinaryIO, cut: _Since) -> Iterator[bytes]:
    """What `file` holds from its position on; a last line that is not whole is left for later."""
    while data := file.read(_READ_BYTES):
        whole = data.rfind(b"\n") + 1
        file.seek(whole - len(data), os.SEEK_CUR)
        if not whole:
            return
        if chunk := cut.apply(data[:whole]):
            yield chunk


class _Since:
    """Drops lines until one was printed at an instant or later. Times sort as their texts do."""

    def __init__(self, since_us: int) -> None:
        self._since = rfc3339(since_us).encode()
        self._reached = since_us <= 0

    def apply(self, lines: bytes) -> bytes:
        if self._reached:
            return lines
        at = 0
        while at < len(lines):
            if lines[at + _TIME_AT : at + _TIME_AT + len(self._since)] >= self._since:
                self._reached = True
                return lines[at:]
            at = lines.index(b"\n", at) + 1
        return b""


def _open_all(directory: Path, files: ExitStack) -> list[BinaryIO]:
    """The files of a log, oldest first. The current one is opened first: if it is rotated
    away in between, it is found twice and used once."""
    found: dict[int, BinaryIO] = {}
    for name in (_CURRENT, _PREVIOUS):
        try:
            file = files.enter_context((directory / name).open("rb"))
        except FileNotFoundError:
            continue
        found.setdefault(os.fstat(file.fileno()).st_ino, file)
    return list(reversed(found.values()))


def _open_to_append(directory: Path) -> tuple[int, int]:
    """A descriptor and the file's size, once a last line that was cut short is gone."""
    directory.mkdir(parents=True, exist_ok=True)
    fd = os.open(directory / _CURRENT, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    size = os.fstat(fd).st_size
    start = max(0, size - _READ_BYTES)
    tail = os.pread(fd, _READ_BYTES, start)
    whole = start + tail.rfind(b"\n") + 1
    if whole < size:
        os.ftruncate(fd, whole)
    return fd, whole
