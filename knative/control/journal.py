"""The control service's database: SQLite in the pod, each transaction durable in PostgreSQL.

The changeset of a transaction is in PostgreSQL before SQLite commits it; when it cannot be had
there, the transaction fails. Another leader starts from the last copy and what was appended since.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw

from dsfn.billing.sqlite import Checkpointer, connect, storage_errors, transaction
from dsfn.functions.errors import DsfnError, StoreUnavailable, UsageError
from dsfn.knative.control.journal_tables import PART_BYTES, Fenced, JournalTables

# A new leader applies about ten thousand of them in a second.
COPY_AFTER_TRANSACTIONS = 10_000
COPY_AFTER_BYTES = 64 << 20
REJOIN_EVERY_S = 0.5
# Without its journal a leader can do little; the other may reach PostgreSQL.
GIVE_UP_S = 30.0
_COPY_AGAIN_S = 30.0
_POSITION = """
CREATE TABLE IF NOT EXISTS journal_position (
    single INTEGER PRIMARY KEY CHECK (single = 1),
    seq    INTEGER NOT NULL -- of the last transaction
) STRICT
"""
_MOVE = "INSERT OR REPLACE INTO journal_position (single, seq) VALUES (1, ?)"
_WITHOUT_KEY = """
SELECT name FROM sqlite_schema AS tables WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
    AND NOT EXISTS (SELECT 1 FROM pragma_table_info(tables.name) WHERE pk > 0)
"""
_LOG = logging.getLogger("dsfn.control")


class JournaledState:
    """`State` of the control service's leader, and the `Journal` of its connection.

    Raises in its transactions `StoreUnavailable` while PostgreSQL is away: nothing is committed
    then, here or there. Belongs to the event loop's thread, and has one of its own for what takes
    long. `end` is called with the reason, in either, when there is another leader, and when
    PostgreSQL is away for so long that another should try.
    """

    def __init__(
        self, path: Path, tables: JournalTables, seq: int, end: Callable[[str], None]
    ) -> None:
        """The database at `path`, as it is after transaction `seq`."""
        self._path = path
        self._tables = tables
        self._end = end
        self._seq = self._appended = seq
        self._session: apsw.Session | None = None
        self._is_passed = self._is_behind = False
        self._behind_since_s = 0.0
        # What was appended, and how much of that is in the last copy.
        self._bytes = self._copied_bytes = 0
        self._copied_seq = seq
        self._wake = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self.connection = connect(path, "")
        self._checkpointer = Checkpointer(path)

    def keep(self) -> None:
        """See `State`. What became of the tables until now is copied as a whole: changesets tell
        of rows alone."""
        if found := self.connection.execute(_WITHOUT_KEY).fetchone():
            raise UsageError(f"The table {found[0]} has no primary key, which a journal needs.")
        self.connection.execute(_POSITION)
        self.connection.execute(_MOVE, (self._seq,))
        self._copy()
        self._tables.rejoin(self._seq)
        self.connection.journal = self
        self.connection.set_commit_hook(self._refuses)
        self._thread.start()

    def close(self) -> None:
        """See `State`."""
        self._is_closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._end_session()
        self.connection.close()
        self._checkpointer.close()
        self._tables.close()

    def begins(self) -> None:
        """See `Journal`. Raises `StoreUnavailable`."""
        if self._appended != self._seq:
            # SQLite did not commit what PostgreSQL has.
            self._fall_behind()
        self._require_connected()
        self._is_passed = False
        self._end_session()
        self._session = apsw.Session(self.connection, "main")
        self._session.table_filter(lambda table: table != "journal_position")
        self._session.attach()

    def commits(self) -> None:
        """See `Journal`. Raises `StoreUnavailable`."""
        assert self._session is not None
        changeset = self._session.changeset()
        self._end_session()
        if changeset:
            self._require_connected()
            self.connection.execute(_MOVE, (self._seq + 1,))
            self._append(changeset)
        self._is_passed = True

    def committed(self) -> None:
        """See `Journal`."""
        self._seq, self._is_passed = self._appended, False

    def _append(self, changeset: bytes) -> None:
        try:
            self._tables.append(self._seq + 1, changeset)
        except Fenced as error:
            self._end(error.message)
            raise
        except BaseException:
            self._fall_behind()
            raise
        self._appended = self._seq + 1
        self._bytes += len(changeset)
        if self._is_copy_due():
            self._wake.set()

    def _refuses(self) -> bool:
        """SQLite's commit hook: whether a commit has gone past the journal."""
        return not self._is_passed

    def _require_connected(self) -> None:
        if self._is_behind:
            raise StoreUnavailable(
                "The journal of the control service cannot be written now.", retry_after_s=1
            )

    def _fall_behind(self) -> None:
        if not self._is_behind:
            self._behind_since_s, self._is_behind = time.monotonic(), True
        self._wake.set()

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _is_copy_due(self) -> bool:
        return (
            self._seq - self._copied_seq >= COPY_AFTER_TRANSACTIONS
            or self._bytes - self._copied_bytes >= COPY_AFTER_BYTES
        )

    # In the thread of its own.

    def _run(self) -> None:
        copy_at_s = 0.0
        while not self._is_closed:
            self._wake.wait(REJOIN_EVERY_S if self._is_behind else None)
            self._wake.clear()
            try:
                if self._is_behind:
                    self._rejoin()
                elif self._is_copy_due() and time.monotonic() >= copy_at_s:
                    copy_at_s = time.monotonic() + _COPY_AGAIN_S
                    self._copy()
            except Fenced as error:
                self._end(error.message)
                return
            except (DsfnError, OSError, apsw.Error) as error:
                _LOG.warning("The journal waits: %s", error)
                self._give_up_if_due()

    def _give_up_if_due(self) -> None:
        if self._is_behind and time.monotonic() - self._behind_since_s > GIVE_UP_S:
            self._end("The journal could not be written for too long.")

    def _rejoin(self) -> None:
        self._tables.rejoin(self._seq)
        self._appended, self._is_behind = self._seq, False

    def _copy(self) -> None:
        """Puts a copy of the database, as it is at one moment, into PostgreSQL."""
        copy = self._path.with_name(f"{self._path.name}-copy")
        copy.unlink(missing_ok=True)
        size_bytes = self._bytes
        try:
            with storage_errors(copy):
                _vacuum_into(self._path, copy)
            seq = _position(copy)
            self._tables.put_copy(seq, _parts(copy))
        finally:
            copy.unlink(missing_ok=True)
        self._copied_seq, self._copied_bytes = seq, size_bytes


def restore(path: Path, tables: JournalTables, end: Callable[[str], None]) -> JournaledState:
    """The database that leaders before this one have left, at `path`, where an older one goes.
    Raises `StoreUnavailable`, and `UsageError` for a journal that is damaged."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    seq, parts = tables.newest_copy()
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
    connection = connect(path, "")
    try:
        # What triggers and cascades did is in the changesets.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 0)
        with transaction(connection):
            for changeset in tables.changesets(seq):
                apsw.Changeset.apply(changeset, connection)
                seq += 1
    except apsw.AbortError as error:
        raise UsageError(f"Transaction {seq + 1} of {tables.address} does not fit.") from error
    finally:
        connection.close()
    return JournaledState(path, tables, seq, end)


def _vacuum_into(path: Path, copy: Path) -> None:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.execute("VACUUM INTO ?", (str(copy),))
    finally:
        connection.close()


def _position(copy: Path) -> int:
    connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        seq: int = connection.execute("SELECT seq FROM journal_position").get
        return seq
    finally:
        connection.close()


def _parts(copy: Path) -> Iterator[bytes]:
    with copy.open("rb") as file:
        while part := file.read(PART_BYTES):
            yield part
