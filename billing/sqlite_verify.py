"""Reads a ledger in SQLite for its check, beside whoever writes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import apsw

from dsfn.billing.queries import QUERIES, SCHEMA, SCHEMA_VERSION, Values
from dsfn.billing.rounding import Counted
from dsfn.billing.snapshot import Snapshot
from dsfn.billing.sqlite import BUSY_TIMEOUT_MS, require_known, storage_errors
from dsfn.billing.stretch_check import Checked, CompactRow, Stretch
from dsfn.billing.stretches import check_all
from dsfn.billing.verify import check_stretch
from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class SqliteBooks:
    """The ledger in a file. Raises `UsageError` for one that is none, damaged, or of a newer
    dsfn."""

    path: Path
    processes: int = 1
    stretch_rows: int = 10_000

    @contextmanager
    def snapshot(self) -> Iterator[SqliteSnapshot]:
        """The ledger as of now."""
        with storage_errors(self.path), closing(self._reader()) as connection:
            require_known(connection, self.path, SCHEMA_VERSION)
            connection.execute("BEGIN")
            if connection.execute(QUERIES["has_table"], ("checkpoints",)).fetchone() is None:
                raise UsageError(f"{self.path} has no journal that could be checked.")
            yield SqliteSnapshot(connection)

    def rows(self, chain: int, first: int, last: int) -> Iterator[tuple[Any, ...]]:
        """The rows with these numbers that are there, in order."""
        return self._stream("select_rows", {"first": first, "last": last})

    def compact_rows(
        self, chain: int, first: int, last: int, separator: str
    ) -> Iterator[CompactRow]:
        """The same rows in fewer columns, some texts as one with `separator` between them."""
        values = {"first": first, "last": last, "separator": separator}
        return self._stream("select_compact", values)

    def check(
        self, stretches: Iterable[Stretch], counted: Counted
    ) -> Iterator[tuple[Stretch, Checked]]:
        """What came of checking stretches, in any order."""
        check = partial(check_stretch, self, counted=counted)
        return check_all(check, check, stretches, self.processes)

    def _stream(self, query: str, values: Values) -> Iterator[tuple[Any, ...]]:
        with storage_errors(self.path), closing(self._reader()) as connection:
            yield from connection.execute(QUERIES[query], values)

    def _reader(self) -> apsw.Connection:
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute("PRAGMA query_only=ON")
        return connection


@dataclass(frozen=True, slots=True)
class SqliteSnapshot(Snapshot):
    """The ledger as it is to one transaction."""

    connection: apsw.Connection

    def fetch(self, query: str, values: Values = ()) -> list[Any]:
        """See `Snapshot`."""
        return self.connection.execute(QUERIES[query], values).fetchall()

    def dropped_guards(self) -> list[tuple[str, str]]:
        """See `Snapshot`."""
        there = set(self.fetch("select_guards"))
        return [
            (table, name)
            for table, name, text in _guards()
            if (table, name, text) not in there and self.has_table(table)
        ]

    def stream(self, query: str) -> Iterator[Any]:
        """See `Snapshot`."""
        yield from self.connection.execute(QUERIES[query])


@cache
def _guards() -> list[Any]:
    """The triggers of a ledger that nobody has touched."""
    with closing(apsw.Connection("")) as connection:
        connection.execute(SCHEMA)
        return connection.execute(QUERIES["select_guards"]).fetchall()
