"""Rows on the disk, from the moment that a call has them until the ledger does.

A row is in the spool for some hundredths of a second, so that an answer waits for one short write
and not for a commit. Two files take turns: rows are added to one while those of the other are
posted, which is emptied then. What a writer that was killed has left at the end of a file without
its end of line was never answered for. Damage is kept aside (`spool_damage.py`).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import field
from operator import attrgetter
from pathlib import Path
from threading import Lock

from dsfn.billing.durable import sync_directory
from dsfn.billing.posting_document import Spooled
from dsfn.billing.spool_damage import FILE_NAME, Damaged, keep, problems_in
from dsfn.billing.spool_records import Content, Record, line_of, missing_between, parse
from dsfn.billing.verification import Problem
from dsfn.functions.errors import StorageFull, StoreUnavailable, UsageError
from dsfn.functions.values import dataclass

# Those of some seconds of a busy node: a ledger that is back takes them in about one.
MAX_ROWS = 20_000
MAX_BYTES = 32 << 20
RETRY_AFTER_S = 1.0
_NAMES = ("ledger.spool", "ledger.spool.next")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_LOG = logging.getLogger("dsfn.ledger")
_last_number = attrgetter("last_number")


@dataclass(eq=False, slots=True)
class _File:
    """One of the two, open, with the rows that are in it."""

    path: Path
    descriptor: int
    size: int = 0
    rows: list[Spooled] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path, opened: ExitStack) -> _File:
        """Opens or makes it, locked, until `opened` ends. Raises `UsageError` when another process
        has it."""
        with _errors_of(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        opened.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"Another process writes to {path}: a spool has one writer.") from None
        return cls(path, descriptor)

    def read(self) -> Content:
        """What is in it."""
        size = os.fstat(self.descriptor).st_size
        return parse(os.pread(self.descriptor, size, 0))

    def begin(self, content: Content) -> None:
        """Goes on behind the last line of what was in it. What is no record is kept elsewhere: it
        goes when the file is emptied, at once where it has no rows."""
        if content.tail:
            torn = self.path.with_name(f"{self.path.name}.torn")
            with _errors_of(torn):
                torn.write_bytes(content.tail)
            text = "%s ends in a record that was cut off, for which nobody was answered: see %s."
            _LOG.warning(text, self.path, torn.name)
        self.rows, self.size = content.rows, content.size
        self._cut()

    def add(self, line: bytes, rows: Sequence[Spooled], sync: bool) -> None:
        """Writes a line behind the others; when that fails, it is not there."""
        try:
            with _errors_of(self.path):
                _write_at(self.descriptor, line, self.size)
                if sync:
                    os.fdatasync(self.descriptor)
        except BaseException:
            self._cut()
            raise
        self.size += len(line)
        self.rows += rows

    def empty(self) -> None:
        """Takes all of it away."""
        with _errors_of(self.path):
            os.ftruncate(self.descriptor, 0)
        self.size, self.rows = 0, []

    def _cut(self) -> None:
        """Takes away what is behind the last line that was written whole. Where even that fails,
        the next line is written over it."""
        try:
            os.ftruncate(self.descriptor, self.size)
        except OSError as error:
            _LOG.warning("%s could not be cut: %s", self.path, error)


class Spool:
    """The rows that wait, in the order in which they came.

    What was added survives `kill -9`, and with `sync` a loss of power. Rows may be added in one
    thread while they are taken in another.
    """

    def __init__(
        self,
        directory: Path,
        *,
        sync: bool,
        max_rows: int = MAX_ROWS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Opens or makes it. Raises `UsageError` when another process has it, `StorageFull`."""
        self._directory, self._sync = directory, sync
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._turn = Lock()
        with ExitStack() as opened:
            files = [_File.open(directory / name, opened) for name in _NAMES]
            # The records of one are older than those of the other.
            older, newer = sorted(((file.read(), file) for file in files), key=_last_number_of)
            self._put_aside(older, newer)
            for content, file in (older, newer):
                file.begin(content)
            if sync:
                sync_directory(directory)
            opened.pop_all()
        self._posting, self._filling = older[1], newer[1]
        self._number = newer[0].last_number

    @property
    def rows(self) -> int:
        """How many wait."""
        return len(self._posting.rows) + len(self._filling.rows)

    def add(self, rows: Sequence[Spooled]) -> None:
        """Has rows wait, all or none; when it returns they are on the disk. Raises `StorageFull`,
        `StoreUnavailable` when so many wait already that these find no room."""
        with self._turn:
            line = line_of(Record(self._number + 1, rows))
            size = self._posting.size + self._filling.size + len(line)
            if self.rows + len(rows) > self._max_rows or size > self._max_bytes:
                raise StoreUnavailable(
                    "There is no room left for usage that waits for the ledger.",
                    reason="full",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._filling.add(line, rows, self._sync)
            self._number += 1

    def taken(self) -> Sequence[Spooled]:
        """The rows that are to be posted first: the same until they are `posted`."""
        with self._turn:
            if not self._posting.rows:
                self._posting, self._filling = self._filling, self._posting
            return self._posting.rows

    def posted(self) -> None:
        """The ledger has what was taken."""
        with self._turn:
            self._posting.empty()

    @property
    def problems(self) -> list[Problem]:
        """What of this directory's spool was damaged, now or before, as a check names it."""
        return problems_in(self._directory)

    def sync(self) -> None:
        """Has all that waits survive a loss of power, too."""
        for file in (self._posting, self._filling):
            with _errors_of(file.path):
                os.fdatasync(file.descriptor)

    def close(self) -> None:
        """Lets go of the files, and of nothing in them."""
        for file in (self._posting, self._filling):
            os.close(file.descriptor)

    def _put_aside(self, older: tuple[Content, _File], newer: tuple[Content, _File]) -> None:
        """Keeps what is damaged, and tells of it."""
        found = [
            Damaged(file.path.name, damage)
            for content, file in (older, newer)
            for damage in content.damage
        ]
        if missing := missing_between(older[0], newer[0]):
            found.append(Damaged(older[1].path.name, missing))
        with _errors_of(self._directory / FILE_NAME):
            keep(self._directory, found)
        for each in found:
            _LOG.error("The spool of the ledger is damaged: %s", each.sentence())


def _write_at(descriptor: int, line: bytes, position: int) -> None:
    written = os.pwrite(descriptor, line, position)
    while written < len(line):
        written += os.pwrite(descriptor, line[written:], position + written)


def rows_in(directory: Path) -> list[Spooled]:
    """The rows that wait in a directory, whoever has it open; nothing is changed."""
    found = [parse(path.read_bytes()) for path in _files_in(directory)]
    return [row for content in sorted(found, key=_last_number) for row in content.rows]


def is_empty(directory: Path) -> bool:
    """Whether the spool of a directory has nothing at all: no rows, and no damage to look at."""
    return not any(path.stat().st_size for path in _files_in(directory))


def _files_in(directory: Path) -> list[Path]:
    return [path for name in _NAMES if (path := directory / name).exists()]


def _last_number_of(read: tuple[Content, _File]) -> int:
    return read[0].last_number


class _errors_of:  # noqa: N801
    """Turns what the operating system says of a file into errors of the tree. Every call of a
    function writes: a generator would take several times as long."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Nothing has happened yet."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, OSError):
            return
        if error.errno in _NO_ROOM:
            raise StorageFull(
                f"There is no room left on the disk to write {self._path.name}."
            ) from error
        raise StoreUnavailable(
            f"{self._path.name} cannot be written: {(error.strerror or str(error)).lower()}.",
            reason=error.strerror or str(error),
            retry_after_s=RETRY_AFTER_S,
        ) from error
