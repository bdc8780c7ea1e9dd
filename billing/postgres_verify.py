"""Reads a ledger in PostgreSQL for its check, beside whoever writes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cache, partial
from typing import Any

from dsfn.billing import postgres_reading
from dsfn.billing.address import Address
from dsfn.billing.postgres import SCHEMA, Watchdog
from dsfn.billing.postgres_migrations import guards
from dsfn.billing.postgres_queries import QUERIES
from dsfn.billing.postgres_reading import Readers
from dsfn.billing.queries import Values
from dsfn.billing.rounding import Counted
from dsfn.billing.snapshot import Snapshot
from dsfn.billing.stretch_check import Checked, CompactRow, Stretch
from dsfn.billing.stretches import check_all
from dsfn.billing.verify import check_stretch
from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class PostgresBooks:
    """The ledger in a database. Its methods raise `StoreUnavailable`."""

    readers: Readers
    processes: int = 1
    stretch_rows: int = 10_000

    @contextmanager
    def snapshot(self) -> Iterator[PostgresSnapshot]:
        """The ledger as of now."""
        with self.readers.snapshot() as books:
            yield PostgresSnapshot(books)

    def rows(self, chain: int, first: int, last: int) -> Iterator[tuple[Any, ...]]:
        """The rows with these numbers that are there, in order."""
        values = {"chain": chain, "first": first, "last": last}
        return self.readers.stream(QUERIES["select_rows"], values)

    def compact_rows(
        self, chain: int, first: int, last: int, separator: str
    ) -> Iterator[CompactRow]:
        """The same rows in fewer columns, some texts as one with `separator` between them."""
        values = {"chain": chain, "first": first, "last": last, "separator": separator}
        return self.readers.stream(QUERIES["select_compact"], values)

    def check(
        self, stretches: Iterable[Stretch], counted: Counted
    ) -> Iterator[tuple[Stretch, Checked]]:
        """What came of checking stretches, in any order."""
        here = partial(check_stretch, self, counted=counted)
        apart = partial(_check_apart, self.readers.address.url, counted)
        return check_all(here, apart, stretches, self.processes)


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


def _check_apart(url: str, counted: Counted, stretch: Stretch) -> Checked:
    """Checks a stretch in a process that does nothing else."""
    return check_stretch(_books_apart(url), stretch, counted)


@cache
def _books_apart(url: str) -> PostgresBooks:
    """The ledger for a process that reads it until it ends."""
    address = Address(url)
    return PostgresBooks(Readers(address, Watchdog()))


@dataclass(frozen=True, slots=True)
class PostgresSnapshot(Snapshot):
    """The ledger as it is to one transaction."""

    books: postgres_reading.Snapshot

    def fetch(self, query: str, values: Values = ()) -> list[Any]:
        """See `Snapshot`."""
        return self.books.fetch(QUERIES[query], values)

    def dropped_guards(self) -> list[tuple[str, str]]:
        """See `Snapshot`."""
        there = set(self.fetch("select_guards"))
        return [guard for guard in guards() if guard not in there and self.has_table(guard[0])]

    def stream(self, query: str) -> Iterator[Any]:
        """See `Snapshot`."""
        return self.books.stream(QUERIES[query])
