"""SQLite as dsfn uses it: one writer per file, write-ahead log, SQL in named queries.

Commits are written before an answer leaves, so they survive `kill -9` at any
instruction; a checkpoint thread syncs them to the disk within
`CHECKPOINT_EVERY_S`, which is all that a loss of power can take. The writer
itself never waits for the disk. apsw carries its own SQLite, because builds
before 3.51.3 can lose commits in WAL mode with two connections
(https://sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pkgutil import get_data
from types import MappingProxyType
from typing import Protocol

import apsw

from dsfn.functions.errors import StorageFull, StoreUnavailable, UsageError

CHECKPOINT_EVERY_S = 1.0
BUSY_TIMEOUT_MS = 5_000
# A log that has grown over this is begun anew as soon as no reader stands in the way. Waiting
# for readers holds the writer up, too: hence the short timeout.
RESTART_LOG_PAGES = 4096
RESTART_TIMEOUT_MS = 20
# Builds before these can lose commits: https://sqlite.org/wal.html#walresetbug
_SOUND = (3, 51, 3)
_MENDED = ((3, 50, 7), (3, 44, 6))
_MARK = "-- name:"
_INCLUDED = re.compile(r"\{(\w+)\}")


def load_queries(
    package: str, resource: str, known: Mapping[str, str] = MappingProxyType({})
) -> Mapping[str, str]:
    """`known` statements, and those of a `.sql` file by name; each follows a line `-- name: NAME`.
    `{NAME}` in one is the text of one before it."""
    queries = dict(known)
    data = get_data(package, resource)
    if data is None:
        raise FileNotFoundError(f"{package} has no {resource}")
    for block in data.decode().split(_MARK)[1:]:
        name, _, body = block.partition("\n")
        queries[name.strip()] = _INCLUDED.sub(lambda found: queries[found[1]], body.strip())
    return queries


class Journal(Protocol):
    """Keeps what the transactions of a connection change somewhere else, too."""

    def begins(self) -> None:
        """A transaction is about to begin."""

    def commits(self) -> None:
        """It is about to be committed. What this raises keeps it from that."""

    def committed(self) -> None:
        """It has been."""


class Connection(apsw.Connection):
    """A connection whose transactions a journal may hear of."""

    journal: Journal | None = None


def connect(path: Path, schema: str, version: int = 0) -> Connection:
    """Opens (or makes) the database at `path` and applies `schema`, which must be idempotent, and
    whose version is noted in the file.

    Raises `UsageError` when the file is no database, or has the schema of a newer dsfn;
    `StorageFull` when the disk has no room.
    """
    require_sound(apsw.sqlite_lib_version())
    with storage_errors(path):
        connection = Connection(str(path))
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=0"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("PRAGMA foreign_keys=ON")
        found = require_known(connection, path, version)
        connection.execute(schema)
        if found < version:
            connection.execute(f"PRAGMA user_version={version}")
    return connection


def require_known(connection: apsw.Connection, path: Path, version: int) -> int:
    """The version of a file's schema, 0 where none was noted. Raises `UsageError` for one that is
    newer than `version`: what is beside the tables that this dsfn knows, it would not keep."""
    found = int(connection.pragma("user_version"))
    if found > version:
        connection.close()
        raise UsageError(
            f"{path} was written by a newer dsfn (its schema is at {found}, this version knows"
            f" {version}): update this one."
        )
    return found


def require_sound(version: str) -> None:
    """Raises `UsageError` for a SQLite that can lose what was committed."""
    numbers = tuple(int(number) for number in version.split("."))
    mended = any(numbers[:2] == fixed[:2] and numbers >= fixed for fixed in _MENDED)
    if numbers < _SOUND and not mended:
        raise UsageError(
            f"SQLite {version} can lose what was committed; dsfn needs 3.51.3 or newer."
        )


class transaction:  # noqa: N801
    """All of the block or nothing. Raises `StorageFull` when the disk has no room, and what the
    connection's journal does.

    Every call of a function commits one: a generator would take several times as long.
    """

    __slots__ = ("_connection", "_journal")

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._journal = connection.journal if isinstance(connection, Connection) else None

    def __enter__(self) -> apsw.Connection:
        if self._journal is not None:
            self._journal.begins()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            _raise_known(error, self._connection.filename)
            raise
        return self._connection

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        connection = self._connection
        try:
            if error is None:
                self._commit()
                return
        except BaseException as failed:
            error = failed
            raise
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if error is not None:
                _raise_known(error, connection.filename)

    def _commit(self) -> None:
        if self._journal is None:
            self._connection.execute("COMMIT")
            return
        self._journal.commits()
        self._connection.execute("COMMIT")
        self._journal.committed()


@contextmanager
def storage_errors(path: Path | str) -> Iterator[None]:
    """Turns SQLite's storage failures into errors of the tree."""
    try:
        yield
    except apsw.Error as error:
        _raise_known(error, path)
        raise


def _raise_known(error: BaseException, path: Path | str) -> None:
    """Raises what a storage failure is in the tree, if it is one."""
    match error:
        case apsw.FullError() | apsw.IOError():
            name = Path(path).name
            raise StorageFull(f"There is no room left on the disk to write {name}.") from error
        case apsw.BusyError() | apsw.LockedError():
            raise StoreUnavailable(f"Another program keeps {Path(path).name} locked.") from error
        case apsw.CorruptError():
            raise UsageError(f"{path} is damaged; put a copy of it in its place.") from error
        case apsw.NotADBError():
            raise UsageError(f"{path} is not a database of dsfn; move it away.") from error


class Checkpointer:
    """A thread that moves committed pages from the log into the database, synced.

    It has its own connection, so that the writer never waits for the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"checkpoint-{path.name}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Checkpoints once more and ends the thread."""
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        connection = apsw.Connection(str(self._path))
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        # Until it has read the file once, a connection does not know that there is a log, and
        # its checkpoints do nothing.
        connection.execute("PRAGMA journal_mode").fetchall()
        connection.set_busy_timeout(RESTART_TIMEOUT_MS)
        while not self._stop.wait(CHECKPOINT_EVERY_S):
            self._checkpoint(connection)
        self._checkpoint(connection)
        connection.close()

    def _checkpoint(self, connection: apsw.Connection) -> None:
        try:
            pages, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if pages > RESTART_LOG_PAGES:
                # A passive checkpoint never reaches the end of a log that is being written. Nearly
                # all of it has just been moved: this one holds the writer up for a moment.
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        except (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.IOError):
            # The log keeps every commit; a checkpoint that cannot run now runs a second later.
            return
