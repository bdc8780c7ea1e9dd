"""Reads a ledger in SQLite for its check, beside whoever writes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from dsfn.billing.chain import Head
from dsfn.billing.chain_check import Checked, check
from dsfn.billing.queries import QUERIES
from dsfn.billing.sqlite import BUSY_TIMEOUT_MS, storage_errors
from dsfn.billing.sqlite_journal import CHAIN
from dsfn.billing.stretches import Stretch, check_all
from dsfn.billing.verify import hash_before
from dsfn.functions.errors import UsageError

_CHECKPOINTS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class SqliteBooks:
    """The ledger in a file. Raises `UsageError` for one that is none or damaged."""

    path: Path
    processes: int = 1
    stretch_rows: int = 20_000

    @contextmanager
    def snapshot(self) -> Iterator[SqliteSnapshot]:
        """The ledger as of now."""
        with storage_errors(self.path), closing(self._reader()) as connection:
            connection.execute("BEGIN")
            if connection.execute(QUERIES["has_table"], ("checkpoints",)).fetchone() is None:
                raise UsageError(f"{self.path} has no journal that could be checked.")
            yield SqliteSnapshot(connection)

    def rows(self, chain: int, first: int, last: int) -> Iterator[tuple[Any, ...]]:
        """The rows with these numbers that are there, in order."""
        with storage_errors(self.path), closing(self._reader()) as connection:
            yield from connection.execute(QUERIES["select_rows"], (first, last))

    def check(self, stretches: Iterable[Stretch]) -> Iterator[Checked]:
        """What came of checking stretches, in their order."""
        return check_all(self.check_stretch, stretches, self.processes)

    def check_stretch(self, stretch: Stretch) -> Checked:
        """What came of checking one stretch."""
        chain, first, last = stretch
        before = hash_before(self, chain, first)
        return check(self.rows(chain, first, last), first, last, before)

    def _reader(self) -> apsw.Connection:
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute("PRAGMA query_only=ON")
        return connection


@dataclass(frozen=True, slots=True)
class SqliteSnapshot:
    """The ledger as it is to one transaction."""

    _connection: apsw.Connection

    def heads(self) -> list[tuple[int, Head]]:
        """The last row, if there is one."""
        found: Any = self._connection.execute(QUERIES["select_head"]).fetchone()
        return [] if found is None else [(CHAIN, Head(*found))]

    def hash_of(self, chain: int, seq: int) -> bytes | None:
        """The hash of a row, None where that is missing."""
        found: Any = self._connection.execute(QUERIES["select_hash"], (seq, chain)).fetchone()
        return None if found is None else found[0]

    def rollups(self) -> Iterator[tuple[Any, ...]]:
        """The fields of `RollupKey`, then those of `RollupSum`."""
        yield from self._connection.execute(QUERIES["select_rollups"])

    def accounts(self) -> Iterator[tuple[Any, ...]]:
        """Account, commodity, balance, and 1 for the account of a lease that is closed."""
        yield from self._connection.execute(QUERIES["select_accounts"])

    def reservations(self) -> Iterator[tuple[Any, ...]]:
        """Tenant and id of those that are open."""
        yield from self._connection.execute(QUERIES["select_reservations"])

    def broken_leases(self, limit: int) -> list[tuple[str, str, int]]:
        """Account, commodity and balance of leases that are closed and do not come to 0."""
        found: Any = self._connection.execute(QUERIES["select_broken_leases"], {"limit": limit})
        return list(found)

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
        if self._connection.execute(QUERIES["has_table"], (table,)).fetchone() is not None:
            yield from self._connection.execute(QUERIES[query])

    def last_checkpoint(self) -> int:
        """The largest number of a checkpoint in the database, 0 while there is none."""
        found: Any = self._connection.execute(QUERIES["select_last_number"]).fetchone()
        return int(found[0])

    def checkpoints(self) -> Iterator[tuple[int, str]]:
        """Those that are in the database, with their numbers, in order."""
        last = 0
        while found := self._checkpoints(last):
            yield from found
            last = found[-1][0]

    def _checkpoints(self, after: int) -> list[Any]:
        bindings = {"after": after, "limit": _CHECKPOINTS_AT_ONCE}
        return self._connection.execute(QUERIES["select_checkpoints"], bindings).fetchall()
