"""The books in PostgreSQL: several writers, each with a chain of its own."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dsfn.billing.corrections import correction_of
from dsfn.billing.entry import USAGE, Entry, entries_of
from dsfn.billing.leases import closing_of
from dsfn.billing.postgres import (
    ANSWER_TIMEOUT_S,
    RETRY_AFTER_S,
    Address,
    Watchdog,
    connect,
)
from dsfn.billing.postgres_cards import PostgresCards
from dsfn.billing.postgres_chain import ChainWriter
from dsfn.billing.postgres_migrations import migrate
from dsfn.billing.postgres_queries import QUERIES
from dsfn.billing.postgres_reading import Readers
from dsfn.billing.postgres_repeats import find_entries
from dsfn.billing.posting import Posting
from dsfn.billing.reading import Bindings, LedgerReads
from dsfn.billing.usage import Usage
from dsfn.functions.errors import StoreUnavailable

MAX_WRITERS = 16


class PostgresLedger(LedgerReads):
    """The ledger in a PostgreSQL database, as `Ledger` says.

    `post` may be called by `writers` threads at once. Every method raises `StoreUnavailable`
    when the server does not answer; the next call connects anew.
    """

    def __init__(
        self, url: str, writers: int = 1, answer_timeout_s: int = ANSWER_TIMEOUT_S
    ) -> None:
        """Opens or makes the ledger; leases that a writer before this one left open are closed.

        Raises `UsageError`, also when another process writes it, `StoreUnavailable`,
        `StorageFull`.
        """
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
        self.closed_until_us = 0
        try:
            with self._writer() as first:
                first.open()
        except BaseException:
            self._watchdog.close()
            raise

    def post(self, rows: Sequence[Posting]) -> None:
        """Writes all of `rows` or none, as `Ledger.post`. After `StoreUnavailable` they may be
        there or not: posting them again leaves each there once."""
        until_us = self.closed_until_us
        entries = [entry for row in rows for entry in entries_of(row, until_us)]
        if entries:
            with self._writer() as writer:
                writer.post(entries)

    def correct(self, invocation_id: str, replacement: Usage) -> None:
        """Takes the row of a call back and posts another in its place, with an id of its own.

        Raises `Conflict` when there is no such call, when it was corrected before by another,
        and when the time that its lease held would no longer be accounted for.
        """
        name = (replacement.tenant, USAGE, invocation_id)
        with self._readers.snapshot() as books:
            first = find_entries(books.connection, [name]).get(name)
        entries = correction_of(invocation_id, first, replacement, self.closed_until_us)
        with self._writer() as writer:
            writer.post(entries)

    def cards(self) -> PostgresCards:
        """Where the rate cards are kept."""
        return PostgresCards(self._readers)

    def close(self) -> None:
        """Lets go of the ledger."""
        for _ in range(self._writers):
            self._free.get(timeout=ANSWER_TIMEOUT_S).close()
        self._readers.close()
        self._watchdog.close()

    def close_leases(self) -> None:
        """Closes the leases of a writer that was killed: no replica outlives it. For when all
        the rows that it owed are posted. Raises as `post`."""
        found = self._rows("select_open_leases", {})
        intervals = (
            interval
            for balance, *values in found
            for interval in closing_of(Entry._make(values[2:-1]), balance)
        )
        self.post(list(intervals))

    def _entries(self, query: str, bindings: Bindings) -> Iterator[Entry]:
        for values in self._readers.stream(QUERIES[query], bindings):
            yield Entry._make(values[2:-1])

    def _rows(self, query: str, bindings: Bindings) -> list[Any]:
        return self._readers.fetch(QUERIES[query], bindings)

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
