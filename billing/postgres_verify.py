"""Reads a ledger in PostgreSQL for its check, beside whoever writes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from dsfn.billing.chain import Head
from dsfn.billing.chain_check import Checked, check
from dsfn.billing.checkpoints import Heads
from dsfn.billing.postgres import SCHEMA, Address, Watchdog
from dsfn.billing.postgres_queries import QUERIES
from dsfn.billing.postgres_reading import Readers, Snapshot
from dsfn.billing.queries import Execute
from dsfn.billing.stretches import Stretch, check_all
from dsfn.billing.verify import hash_before
from dsfn.functions.errors import UsageError


def heads_of(execute: Execute) -> Heads:
    """The last row of each chain that has rows."""
    return tuple((chain, Head(seq, digest)) for chain, seq, digest in execute("select_heads", ()))


@dataclass(frozen=True, slots=True)
class PostgresBooks:
    """The ledger in a database. Its methods raise `StoreUnavailable`."""

    readers: Readers
    processes: int = 1
    stretch_rows: int = 20_000

    @contextmanager
    def snapshot(self) -> Iterator[PostgresSnapshot]:
        """The ledger as of now."""
        with self.readers.snapshot() as books:
            yield PostgresSnapshot(books)

    def rows(self, chain: int, first: int, last: int) -> Iterator[tuple[Any, ...]]:
        """The rows with these numbers that are there, in order."""
        values = {"chain": chain, "first": first, "last": last}
        return self.readers.stream(QUERIES["select_rows"], values)

    def check(self, stretches: Iterable[Stretch]) -> Iterator[Checked]:
        """What came of checking stretches, in their order."""
        if self.processes == 1:
            return map(partial(_check, self), stretches)
        check = partial(_check_apart, self.readers.address.url)
        return check_all(check, stretches, self.processes)


@contextmanager
def open_books(url: str, processes: int = 1) -> Iterator[PostgresBooks]:
    """A ledger as a check reads it, whoever writes it. Raises `UsageError` when there is none,
    `StoreUnavailable`."""
    address = Address(url)
    watchdog = Watchdog()
    with closing(watchdog), closing(Readers(address, watchdog)) as readers:
        ((table,),) = readers.fetch("SELECT to_regclass(%s)", (f"{SCHEMA}.entries",))
        if table is None:
            raise UsageError(f"There is no ledger in {address}.")
        yield PostgresBooks(readers, processes)


def _check_apart(url: str, stretch: Stretch) -> Checked:
    """Checks a stretch in a process that has no connection yet."""
    with open_books(url) as books:
        return _check(books, stretch)


def _check(books: PostgresBooks, stretch: Stretch) -> Checked:
    chain, first, last = stretch
    before = hash_before(books, chain, first)
    return check(books.rows(chain, first, last), first, last, before)


@dataclass(frozen=True, slots=True)
class PostgresSnapshot:
    """The ledger as it is to one transaction."""

    books: Snapshot

    def heads(self) -> list[tuple[int, Head]]:
        """The last row of each chain that has rows, by their numbers."""
        return list(heads_of(lambda query, values: self.books.fetch(QUERIES[query], values)))

    def hash_of(self, chain: int, seq: int) -> bytes | None:
        """The hash of a row, None where that is missing."""
        found = self.books.fetch(QUERIES["select_hash"], (seq, chain))
        return found[0][0] if found else None

    def rollups(self) -> Iterator[tuple[Any, ...]]:
        """The fields of `RollupKey`, then those of `RollupSum`; those of each chain."""
        return self.books.stream(QUERIES["select_rollups"])

    def accounts(self) -> Iterator[tuple[Any, ...]]:
        """Account, commodity, balance, and 1 for the account of a lease that is closed; those of
        each chain."""
        return self.books.stream(QUERIES["select_accounts"])

    def reservations(self) -> Iterator[tuple[Any, ...]]:
        """Tenant and id of those that are open."""
        return self.books.stream(QUERIES["select_reservations"])

    def broken_leases(self, limit: int) -> list[tuple[str, str, int]]:
        """Account, commodity and balance of leases that are closed and do not come to 0."""
        return self.books.fetch(QUERIES["select_broken_leases"], {"limit": limit})

    def cards(self) -> Iterator[tuple[Any, ...]]:
        """The rate cards, by their numbers."""
        return self._kept("rate_cards", "select_cards")

    def months(self) -> Iterator[tuple[Any, ...]]:
        """The closed months, in order."""
        return self._kept("closed_months", "select_all_months")

    def documents(self) -> Iterator[tuple[Any, ...]]:
        """The documents, by their numbers."""
        return self._kept("documents", "select_all_documents")

    def stray_prints(self) -> Iterator[tuple[str, str]]:
        """Number and format of prints of no document."""
        return self._kept("prints", "select_stray_prints")

    def _kept(self, table: str, query: str) -> Iterator[Any]:
        """The rows of a query about a table that older ledgers have not."""
        if self.books.fetch(QUERIES["has_table"], (table,)):
            yield from self.books.stream(QUERIES[query])

    def last_checkpoint(self) -> int:
        """The largest number of a checkpoint in the database, 0 while there is none."""
        ((number,),) = self.books.fetch(QUERIES["select_last_number"], ())
        return int(number)

    def checkpoints(self) -> Iterator[tuple[int, str]]:
        """Those that are in the database, with their numbers, in order."""
        return self.books.stream(QUERIES["select_all_checkpoints"])
