"""What functions print: pumped from each worker's pipe into its function's log.

A worker's stdout and stderr are one pipe, so that its lines keep their order;
`stream` is therefore always "output". A line of a log is

    {"time": RFC 3339, "revision": str, "replica": pid, "invocation": id or null,
     "stream": "output", "text": str}

`invocation` is the call that the replica ran then; null before its first call, and while
several run at once, when nobody can tell which of them printed.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Protocol

from dsfn.functions.errors import NotFound
from dsfn.functions.options import NAME_PATTERN
from dsfn.runtime.clock import Clock, SystemClock, rfc3339
from dsfn.runtime.logfile import LogFile, follow_log, read_log

MAX_LINE_BYTES = 16 << 10
# What a line counts at least towards the limit: an empty one costs the node no less than this.
MIN_LINE_BYTES = 64
DEFAULT_LIMIT_BYTES = 16 << 20
# One turn of the event loop: 16 KiB of nothing but line breaks take it a few milliseconds.
_READ_BYTES = 16 << 10
# A pipe holds at most 1 MiB; what is left in it when its worker has ended is read at once.
_DRAIN_READS = (1 << 20) // _READ_BYTES

_SYSTEM_CLOCK = SystemClock()
_encode_text = json.JSONEncoder(ensure_ascii=False).encode


class Log(Protocol):
    """The writing end of one function's log. It never raises."""

    dropped_lines: int

    def append(self, lines: bytes) -> None:
        """Writes whole lines."""

    def close(self) -> None:
        """Nothing is written for now."""


class Logs(Protocol):
    """The reading end of all functions' logs."""

    def read(self, function: str, since_us: int = 0) -> Iterator[bytes]:
        """The log's lines since an instant, oldest first, in chunks of whole lines.

        Reads files or asks others: not for the event loop.
        """

    def follow(self, function: str, since_us: int = 0) -> AsyncGenerator[bytes, None]:
        """Like `read`, and then whatever is printed, until the caller closes it or
        `stop_following`."""

    def stop_following(self) -> None:
        """Ends whatever `follow` has given, now and later."""


class LogStore:
    """The logs of all functions, a directory each under `root`, or what `open_log` opens in the
    place of that."""

    def __init__(
        self,
        root: Path,
        clock: Clock = _SYSTEM_CLOCK,
        open_log: Callable[[Path], Log] = LogFile,
    ) -> None:
        self._root = root
        self._clock = clock
        self._open_log = open_log
        self._files: dict[str, Log] = {}
        self._pumps: Counter[str] = Counter()
        self._dropped_lines = 0
        self._is_followed = True

    @property
    def dropped_lines(self) -> int:
        """How many lines the disk had no room for."""
        return self._dropped_lines + sum(file.dropped_lines for file in self._files.values())

    def pump(
        self,
        fd: int,
        *,
        function: str,
        revision: str,
        replica: int,
        on_limit: Callable[[], None],
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
    ) -> Pump:
        """Starts to move what a worker prints into `function`'s log. Takes `fd` over, unless
        this raises `OSError`.

        `on_limit` is called once when more than `limit_bytes` came since the last
        `Pump.mark()`; what comes after that, until the next mark, is not kept.
        """
        file = self._files.setdefault(function, self._open_log(self._directory(function)))
        pump = Pump(
            fd=fd,
            source=_Source(self._clock, file, revision, replica),
            limit_bytes=limit_bytes,
            on_limit=on_limit,
            on_close=lambda: self._release(function),
        )
        self._pumps[function] += 1
        return pump

    def read(self, function: str, since_us: int = 0) -> Iterator[bytes]:
        """See `Logs`."""
        return read_log(self._directory(function), since_us)

    def follow(self, function: str, since_us: int = 0) -> AsyncGenerator[bytes, None]:
        """See `Logs`."""
        return follow_log(self._directory(function), since_us, lambda: self._is_followed)

    def stop_following(self) -> None:
        """See `Logs`."""
        self._is_followed = False

    def _directory(self, function: str) -> Path:
        if NAME_PATTERN.fullmatch(function) is None:
            raise NotFound(f"There is no function {function!r}.", kind="function", name=function)
        return self._root / function

    def _release(self, function: str) -> None:
        self._pumps[function] -= 1
        if self._pumps[function] == 0:
            del self._pumps[function]
            file = self._files.pop(function)
            file.close()
            self._dropped_lines += file.dropped_lines


class Pump:
    """Reads one worker's pipe whenever it has something, until it ends or `close()`."""

    def __init__(
        self,
        fd: int,
        source: _Source,
        limit_bytes: int,
        on_limit: Callable[[], None],
        on_close: Callable[[], None],
    ) -> None:
        self._fd: int | None = fd
        self._source = source
        self._limit_bytes = limit_bytes
        self._on_limit = on_limit
        self._on_close = on_close
        self._since_mark_bytes = 0
        self._partial = b""
        self._loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._readable)

    def mark(self, invocation: str | None) -> None:
        """Starts to count anew: a call begins, whose id the lines from now on have."""
        # What is in the pipe still was printed before.
        for _ in range(_DRAIN_READS):
            data = None if self._fd is None else self._read(self._fd)
            if not data:
                break
            self._take(data)
        self._since_mark_bytes = 0
        self._source.invocation = invocation

    def bytes_since_mark(self) -> int:
        """How much was printed since the last mark; many short lines count for more."""
        return self._since_mark_bytes

    def close(self) -> None:
        """Takes what is still in the pipe and closes it. Doing so again does nothing."""
        if self._fd is None:
            return
        for _ in range(_DRAIN_READS):
            data = self._read(self._fd)
            if not data:
                break
            self._take(data)
        self._end(self._fd)

    def _readable(self) -> None:
        assert self._fd is not None
        data = self._read(self._fd)
        if data:
            self._take(data)
        elif data is not None:
            self._end(self._fd)

    def _read(self, fd: int) -> bytes | None:
        """What is there: None when nothing is, b"" when nothing will be."""
        try:
            return os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return None

    def _take(self, data: bytes) -> None:
        was_over = self._since_mark_bytes > self._limit_bytes
        self._since_mark_bytes += max(len(data), MIN_LINE_BYTES * data.count(b"\n"))
        if self._since_mark_bytes > self._limit_bytes:
            self._partial = b""
            if not was_over:
                limit = f"[over {self._limit_bytes} bytes in one call: the rest is not kept]"
                self._source.append([limit.encode()])
                self._on_limit()
            return
        *lines, rest = (self._partial + data).split(b"\n")
        # One byte more than fits is kept to show that the line was longer.
        self._partial = rest[: MAX_LINE_BYTES + 1]
        if lines:
            self._source.append(lines)

    def _end(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        os.close(fd)
        self._fd = None
        if self._partial:
            self._source.append([self._partial])
            self._partial = b""
        self._on_close()


class _Source:
    """Writes lines down as coming from one replica."""

    def __init__(self, clock: Clock, file: Log, revision: str, replica: int) -> None:
        self._clock = clock
        self._file = file
        self._origin = f'","revision":{json.dumps(revision)},"replica":{replica}'
        self.invocation: str | None = None

    def append(self, lines: list[bytes]) -> None:
        origin = f'{self._origin},"invocation":{json.dumps(self.invocation)}'
        head = f'{{"time":"{rfc3339(self._clock.now_us())}{origin},"stream":"output","text":'
        self._file.append(
            "".join([f"{head}{_encode_text(_text(line))}}}\n" for line in lines]).encode()
        )


def _text(line: bytes) -> str:
    cut = line[:MAX_LINE_BYTES].removesuffix(b"\r").decode(errors="replace")
    return cut if len(line) <= MAX_LINE_BYTES else cut + "…"
