"""A ledger as it was at one moment, as its check reads it, whichever database keeps it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from dsfn.billing.chain import Head
from dsfn.billing.checkpoints import Heads
from dsfn.billing.queries import Execute, Values
from dsfn.billing.rates.table import CardRow
from dsfn.billing.rounding import Counted, Roundings


def heads_of(execute: Execute) -> Heads:
    """The last row of each chain that has rows, by their numbers."""
    return tuple((chain, Head(seq, digest)) for chain, seq, digest in execute("select_heads", ()))


class Snapshot(ABC):
    """All that a check reads but for the rows of the journal; `MoneyTables` among it."""

    @abstractmethod
    def fetch(self, query: str, values: Values = ()) -> list[Any]:
        """All rows of a query that gives few, by its name."""

    @abstractmethod
    def stream(self, query: str) -> Iterator[Any]:
        """The rows of a query that gives many, by its name. Others may be asked meanwhile."""

    @abstractmethod
    def dropped_guards(self) -> list[tuple[str, str]]:
        """Table and name of triggers that should refuse changes, and do not."""

    def heads(self) -> Heads:
        """The last row of each chain that has rows, by their numbers."""
        return heads_of(self.fetch)

    def hash_of(self, chain: int, seq: int) -> bytes | None:
        """The hash of a row, None where that is missing."""
        found = self.fetch("select_hash", (seq, chain))
        return found[0][0] if found else None

    def rollups(self) -> Iterator[tuple[Any, ...]]:
        """The fields of `RollupKey`, then those of `RollupSum`; in PostgreSQL for each chain."""
        return self.stream("select_rollups")

    def paddings(self) -> Iterator[tuple[Any, ...]]:
        """The fields of `PaddingKey`, then the padding in us; in PostgreSQL for each chain."""
        return self._kept("paddings", "select_paddings")

    def counted(self) -> Counted:
        """Which rows are in the paddings."""
        cards = [CardRow(*values) for values in self.cards()]
        built = self._kept("roundings", "select_roundings")
        return Counted(Roundings.of(cards), {(card, chain): seq for card, chain, seq in built})

    def accounts(self) -> Iterator[tuple[Any, ...]]:
        """Account, commodity, balance, and 1 for the account of a lease that is closed; in
        PostgreSQL for each chain."""
        return self.stream("select_accounts")

    def reservations(self) -> Iterator[tuple[Any, ...]]:
        """Tenant and id of those that are open."""
        return self.stream("select_reservations")

    def broken_leases(self, limit: int) -> list[tuple[str, str, int]]:
        """Account, commodity and balance of leases that are closed and do not come to 0."""
        return self.fetch("select_broken_leases", {"limit": limit})

    def last_checkpoint(self) -> int:
        """The largest number of a checkpoint in the database, 0 while there is none."""
        ((number,),) = self.fetch("select_last_number")
        return int(number)

    def checkpoints(self) -> Iterator[tuple[int, str]]:
        """Those that are in the database, with their numbers, in order."""
        return self.stream("select_all_checkpoints")

    def cards(self) -> Iterator[tuple[Any, ...]]:
        """See `MoneyTables`."""
        return self._kept("rate_cards", "select_cards")

    def months(self) -> Iterator[tuple[Any, ...]]:
        """See `MoneyTables`."""
        return self._kept("closed_months", "select_all_months")

    def documents(self) -> Iterator[tuple[Any, ...]]:
        """See `MoneyTables`."""
        return self._kept("documents", "select_all_documents")

    def stray_prints(self) -> Iterator[tuple[str, str]]:
        """See `MoneyTables`."""
        return self._kept("prints", "select_stray_prints")

    def _kept(self, table: str, query: str) -> Iterator[Any]:
        """The rows of a query about a table that older ledgers have not."""
        if self.has_table(table):
            yield from self.stream(query)

    def has_table(self, table: str) -> bool:
        """Whether the ledger is of a version that has a table."""
        return bool(self.fetch("has_table", (table,)))
