"""The books in PostgreSQL: several writers, each with a chain of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from dsfn.billing.address import Address
from dsfn.billing.cards import KeptCards
from dsfn.billing.checkpointing import add_checkpoint, rotate, unsigned_rows
from dsfn.billing.checkpoints import Checkpoint
from dsfn.billing.corrections import correction_of
from dsfn.billing.documents import KeptDocuments, closed_until_us, insert_issue, rows_of
from dsfn.billing.entry import USAGE, Entry, entries_of
from dsfn.billing.evidence import NO_EVIDENCE, Evidence
from dsfn.billing.issued import Issue
from dsfn.billing.leases import closing_of
from dsfn.billing.paddings import is_behind, read_roundings
from dsfn.billing.postgres import (
    ANSWER_TIMEOUT_S,
    RETRY_AFTER_S,
    Watchdog,
    connect,
)
from dsfn.billing.postgres_chain import ChainWriter
from dsfn.billing.postgres_migrations import migrate
from dsfn.billing.postgres_queries import QUERIES
from dsfn.billing.postgres_reading import Readers
from dsfn.billing.postgres_repeats import find_entries
from dsfn.billing.postgres_verify import PostgresBooks
from dsfn.billing.posting import Posting
from dsfn.billing.queries import Execute, Values
from dsfn.billing.reading import LedgerReads
from dsfn.billing.record import missing_records
from dsfn.billing.rounding import Roundings
from dsfn.billing.signing import SigningKey
from dsfn.billing.snapshot import heads_of
from dsfn.billing.usage import Usage
from dsfn.billing.verification import Verification
from dsfn.billing.verify import verify
from dsfn.functions.errors import Conflict, StoreUnavailable

MAX_WRITERS = 16


class PostgresLedger(LedgerReads):
    """The ledger in a PostgreSQL database, as `Ledger` says.

    `post` may be called by `writers` threads at once. Every method raises `StoreUnavailable`
    when the server does not answer; the next call connects anew.
    """

    def __init__(
        self, url: str, writers: int = 1, answer_timeout_s: int = ANSWER_TIMEOUT_S
    ) -> None:
        """Opens or makes the ledger. Raises `UsageError`, also when another process writes
        it, `StoreUnavailable`, `StorageFull`."""
        self._address = Address(url)
        with connect(self._address) as connection:
            migrate(connection, self._address)
        self._watchdog = Watchdog(answer_timeout_s)
        self._readers = Readers(self._address, self._watchdog)
        # The last in is the first out: where one is enough, the others are never opened.
        self._free: queue.LifoQueue[ChainWriter] = queue.LifoQueue()
        for chain in reversed(range(writers)):
            self._free.put(ChainWriter(self._address, self._watchdog, chain))
        self._writers = writers
        self._roundings = Roundings()
        self._collecting = threading.Lock()
        self.documents = KeptDocuments(self._read, self.keep)
        try:
            with self._writer() as first:
                first.open()
            self._billed_from_us = self.closed_until_us
            if records := missing_records(self._read):
                self.post(records)
        except BaseException:
            self.close()
            raise

    def post(self, rows: Sequence[Posting]) -> None:
        """Writes all of `rows` or none, as `Ledger.post`. After `StoreUnavailable` they may be
        there or not: posting them again leaves each there once."""
        if rows:
            with self._writer() as writer:
                # Months are not closed while a writer is at work.
                until_us = self._billed_from_us
                writer.post([entry for row in rows for entry in entries_of(row, until_us)])

    def append(self, entries: Sequence[Entry]) -> None:
        """Writes entries as they are, all or none, to one chain: those of another ledger."""
        with self._writer() as writer:
            writer.post(entries)

    @property
    def closed_until_us(self) -> int:
        """The end of the last closed month, 0 while none is."""
        return closed_until_us(self._read)

    def correct(self, invocation_id: str, replacement: Usage) -> None:
        """Takes the row of a call back and posts another in its place, with an id of its own.

        Raises `Conflict` when there is no such call, when it was corrected before by another,
        and when the time that its lease held would no longer be accounted for.
        """
        name = (replacement.tenant, USAGE, invocation_id)
        with self._readers.snapshot() as books:
            first = find_entries(books.connection, [name]).get(name)
        with self._writer() as writer:
            until_us = self._billed_from_us
            writer.post(correction_of(invocation_id, first, replacement, until_us))

    def start_closing(self, end_us: int) -> None:
        """Has whatever is posted from now on be billed in the month that begins at `end_us`, or in
        a later one, as if those before were closed already."""
        with self._all_writers():
            self._billed_from_us = max(self._billed_from_us, end_us)

    def issue(self, issue: Issue) -> None:
        """Keeps documents, their rows in the journal and the month that they close: all or
        nothing. When it returns they survive `kill -9`.

        Raises `Conflict` for what is there already with another body, `StorageFull`.
        """
        entries = [entry for row in rows_of(issue) for entry in entries_of(row, 0)]
        try:
            with self._writer() as writer:
                writer.post(entries, partial(insert_issue, issue=issue))
        except Conflict:
            # The server may have kept all of it and been lost before it said so.
            if not self._is_issued(issue):
                raise

    def close_leases(self) -> None:
        """Closes the leases of a writer that was killed: no replica outlives it. For when all
        the rows that it owed are posted. Raises `StorageFull`."""
        found = self._read("select_open_leases", ())
        intervals = (
            interval
            for balance, *values in found
            for interval in closing_of(Entry._make(values[2:-1]), balance)
        )
        self.post(list(intervals))

    def build_paddings(self, limit: int) -> int:
        """See `Ledger`."""
        roundings = read_roundings(self._read, self._roundings)
        if roundings is not self._roundings:
            with self._all_writers() as writers:
                for writer in writers:
                    writer.roundings = roundings
            self._roundings = roundings
        for chain in self.heads() if roundings.spans else ():
            if is_behind(self._read, roundings, chain):
                with self._writer_of(chain) as writer:
                    return writer.build_paddings(chain, limit)
        return 0

    @property
    def unsigned_rows(self) -> int:
        """How many rows have come since the last checkpoint."""
        return unsigned_rows(self._read, heads_of(self._read))

    def checkpoint(self, key: SigningKey, now_us: int) -> Checkpoint | None:
        """Signs what the chains have come to, and keeps that; None when nothing has come since
        the last time. Raises `StorageFull`, and `UsageError` when another key signed the last
        one."""
        made: list[Checkpoint | None] = []

        def sign(execute: Execute) -> None:
            made.append(add_checkpoint(execute, key, heads_of(execute), now_us))

        self.keep(sign)
        # Where the answer to a commit was lost, it is made once more, and finds nothing to sign.
        return next((each for each in reversed(made) if each is not None), None)

    def rotate(self, key: SigningKey, next_key: SigningKey, now_us: int) -> None:
        """See `Ledger`."""
        self.keep(lambda execute: rotate(execute, key, next_key, heads_of(execute), now_us))

    def cards(self) -> KeptCards:
        """Where the rate cards are kept."""
        return KeptCards(self._read, self._post_with)

    def books(self) -> PostgresBooks:
        """This ledger as a check reads it."""
        return PostgresBooks(self._readers)

    def verify(self, evidence: Evidence = NO_EVIDENCE) -> Verification:
        """Looks at every row, sum, account and checkpoint, in little memory."""
        return verify(self.books(), evidence)

    def close(self) -> None:
        """Lets go of the ledger."""
        with self._all_writers() as writers:
            for writer in writers:
                writer.close()
        self._readers.close()
        self._watchdog.close()

    def _is_issued(self, issue: Issue) -> bool:
        kept = all(self.documents.get(each.number) == each for each in issue.documents)
        month = issue.month
        return kept and (month is None or self.documents.month(month.month) == month)

    def _post_with(self, row: Posting, beside: Callable[[Execute], None]) -> None:
        """Posts a row, and writes what belongs to it."""
        with self._writer() as writer:
            writer.post(entries_of(row, 0), beside)

    def keep(self, write: Callable[[Execute], None]) -> None:
        """Writes something that is no entry, in a transaction."""
        with self._writer() as writer:
            writer.post((), write)

    def _read(self, query: str, values: Values) -> list[Any]:
        return self._readers.fetch(QUERIES[query], values)

    def stream(self, query: str, values: Values = ()) -> Iterator[Any]:
        """See `LedgerReads`."""
        return self._readers.stream(QUERIES[query], values)

    @contextmanager
    def _writer(self) -> Iterator[ChainWriter]:
        try:
            writer = self._free.get(timeout=ANSWER_TIMEOUT_S)
        except queue.Empty:
            raise StoreUnavailable(
                f"All writers of the ledger {self._address} are busy.",
                reason="all writers are busy",
                retry_after_s=RETRY_AFTER_S,
            ) from None
        try:
            yield writer
        finally:
            self._free.put(writer)

    @contextmanager
    def _writer_of(self, chain: int) -> Iterator[ChainWriter]:
        """The writer of a chain; any of them for a chain that has none here."""
        with self._collecting, ExitStack() as others:
            writer = others.enter_context(self._writer())
            while writer.chain != chain < self._writers:
                writer = others.enter_context(self._writer())
            yield writer

    @contextmanager
    def _all_writers(self) -> Iterator[list[ChainWriter]]:
        """All writers, when none is at work any more."""
        with self._collecting, ExitStack() as writers:
            yield [writers.enter_context(self._writer()) for _ in range(self._writers)]
