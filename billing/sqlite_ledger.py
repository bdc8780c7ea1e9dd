"""The ledger in one SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import apsw

from dsfn.billing.cards import KeptCards
from dsfn.billing.checkpointing import add_checkpoint, rotate, unsigned_rows
from dsfn.billing.checkpoints import Checkpoint
from dsfn.billing.corrections import correction_of
from dsfn.billing.documents import KeptDocuments, closed_until_us, insert_issue, rows_of
from dsfn.billing.entry import USAGE, Entry, entries_of
from dsfn.billing.evidence import NO_EVIDENCE, Evidence
from dsfn.billing.grouping import Group
from dsfn.billing.issued import Issue
from dsfn.billing.leases import closing_of
from dsfn.billing.posting import Posting
from dsfn.billing.queries import QUERIES, SCHEMA, SCHEMA_VERSION, Execute, Values
from dsfn.billing.reading import LedgerReads
from dsfn.billing.record import missing_records
from dsfn.billing.signing import SigningKey
from dsfn.billing.sqlite import (
    BUSY_TIMEOUT_MS,
    Checkpointer,
    connect,
    storage_errors,
    transaction,
)
from dsfn.billing.sqlite_journal import SqliteJournal
from dsfn.billing.sqlite_lock import WriterLock
from dsfn.billing.sqlite_takeover import take_over
from dsfn.billing.sqlite_verify import SqliteBooks
from dsfn.billing.usage import Usage
from dsfn.billing.verification import Verification
from dsfn.billing.verify import verify


class SqliteLedger(LedgerReads):
    """A `Ledger` in one SQLite file, with one writer.

    `post` and `correct` may be called in any thread; reads open their own connection and may
    run beside them.
    """

    def __init__(self, path: Path) -> None:
        """Opens or makes the ledger.

        Raises `UsageError` when another process writes to it or a newer dsfn has, `StorageFull`.
        """
        self._path = path
        self._lock = WriterLock(path)
        try:
            self._connection = connect(path, SCHEMA, SCHEMA_VERSION)
            self._journal = SqliteJournal(self._connection)
            self.closed_until_us = closed_until_us(self._journal.execute)
            self._billed_from_us = self.closed_until_us
            take_over(self._connection, self._journal)
            if records := missing_records(self._read):
                self._append(records)
            self._checkpointer = Checkpointer(path)
        except BaseException:
            self._lock.release()
            raise
        self._turn = Lock()
        self._group = Group(self._turn, self._append)
        self.documents = KeptDocuments(self._read, self._keep)

    def post(self, rows: Sequence[Posting]) -> None:
        """Writes all of `rows` or none; when it returns they survive `kill -9`.

        A row that is there already, field for field, is left as it is. Raises `Conflict`
        (with the row's `invocation_id` or `id`) for a row that is there with another body, for
        a second success under one idempotency key, and for money given back that was not set
        aside; `StorageFull` when the disk has no room, `StoreUnavailable` when another program
        keeps the database locked.
        """
        if rows:
            self._group.post(rows)

    def correct(self, invocation_id: str, replacement: Usage) -> None:
        """Takes the row of a call back and posts another in its place, with an id of its own.

        Raises `Conflict` when there is no such call, when it was corrected before by another,
        and when the time that its lease held would no longer be accounted for.
        """
        with self._turn:
            first = self._journal.find((replacement.tenant, USAGE, invocation_id))
            until_us = self._billed_from_us
            self._journal.append(correction_of(invocation_id, first, replacement, until_us))

    def start_closing(self, end_us: int) -> None:
        """Has whatever is posted from now on be billed in the month that begins at `end_us`, or in
        a later one, as if those before were closed already."""
        with self._turn:
            self._billed_from_us = max(self._billed_from_us, end_us)

    def issue(self, issue: Issue) -> None:
        """Keeps documents, their rows in the journal and the month that they close: all or
        nothing. When it returns they survive `kill -9`.

        Raises `Conflict` for what is there already, `StorageFull`.
        """
        with self._turn:
            entries = [e for row in rows_of(issue) for e in entries_of(row, 0)]
            self._journal.append(entries, partial(insert_issue, issue=issue))
            if issue.month is not None:
                self.closed_until_us = issue.month.end_us

    def build_paddings(self, limit: int) -> int:
        """See `Ledger`. Raises `StorageFull`, `StoreUnavailable`."""
        with self._turn:
            return self._journal.build_paddings(limit)

    @property
    def unsigned_rows(self) -> int:
        """How many rows have come since the last checkpoint."""
        with self._turn:
            return unsigned_rows(self._journal.execute, self._journal.heads())

    def checkpoint(self, key: SigningKey, now_us: int) -> Checkpoint | None:
        """Signs what the ledger has come to, and keeps that; None when nothing has come since the
        last time. Raises `StorageFull`, and `UsageError` when another key signed the last one."""
        with self._turn, transaction(self._connection):
            return add_checkpoint(self._journal.execute, key, self._journal.heads(), now_us)

    def rotate(self, key: SigningKey, next_key: SigningKey, now_us: int) -> None:
        """See `Ledger`."""
        with self._turn, transaction(self._connection):
            rotate(self._journal.execute, key, next_key, self._journal.heads(), now_us)

    def books(self) -> SqliteBooks:
        """This ledger as a check reads it."""
        return SqliteBooks(self._path)

    def verify(self, evidence: Evidence = NO_EVIDENCE) -> Verification:
        """Looks at every row, sum, account and checkpoint, in little memory. Raises `UsageError`
        for a file that is damaged."""
        return verify(self.books(), evidence)

    def cards(self) -> KeptCards:
        """Where the rate cards are kept."""
        return KeptCards(self._read, self._post_with)

    def close(self) -> None:
        """Moves everything into the database file and closes it."""
        self._connection.close()
        self._checkpointer.close()
        self._lock.release()

    def _append(self, rows: Sequence[Posting]) -> None:
        until_us = self._billed_from_us
        self._journal.append([entry for row in rows for entry in entries_of(row, until_us)])

    def _post_with(self, row: Posting, beside: Callable[[Execute], None]) -> None:
        """Posts a row, and writes what belongs to it."""
        with self._turn:
            self._journal.append(entries_of(row, 0), beside)

    def _keep(self, write: Callable[[Execute], None]) -> None:
        """Writes something that is no entry."""
        with self._turn, transaction(self._connection):
            write(self._journal.execute)

    def close_leases(self) -> None:
        """Closes the leases of a writer that was killed: no replica outlives it. For when all
        the rows that it owed are posted. Raises as `post`."""
        self.post(
            [
                interval
                for balance, *values in self._read("select_open_leases", ())
                for interval in closing_of(Entry._make(values[2:-1]), balance)
            ]
        )

    def _read(self, query: str, values: Values) -> list[Any]:
        return list(self.stream(query, values))

    def stream(self, query: str, values: Values = ()) -> Iterator[Any]:
        """See `LedgerReads`."""
        with closing(self._reader()) as connection:
            yield from connection.execute(QUERIES[query], values)

    def _reader(self) -> apsw.Connection:
        with storage_errors(self._path):
            connection = apsw.Connection(str(self._path))
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            connection.execute("PRAGMA query_only=ON")
        return connection
