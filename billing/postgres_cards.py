"""Rate cards in a ledger that lies in PostgreSQL."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from dsfn.billing.postgres import connect, server_errors
from dsfn.billing.postgres_queries import QUERIES
from dsfn.billing.postgres_reading import Readers
from dsfn.billing.rates.table import CardRow
from dsfn.functions.errors import StoreUnavailable


@dataclass(frozen=True, slots=True)
class PostgresCards:
    """The cards of one ledger, as `CardTable` says."""

    readers: Readers

    def rows(self) -> list[CardRow]:
        """All of them, by their numbers. Raises `StoreUnavailable`."""
        return [CardRow(*values) for values in self.readers.fetch(QUERIES["select_cards"])]

    def append(self, row: CardRow) -> None:
        """Keeps one more. Raises `StorageFull`, `StoreUnavailable`."""
        try:
            self._insert(row)
        except StoreUnavailable:
            # The server may have kept it and been lost before it said so.
            if row not in self.rows():
                raise

    def _insert(self, row: CardRow) -> None:
        address, watchdog = self.readers.address, self.readers.watchdog
        with connect(address) as connection:
            with server_errors(address), watchdog.watching(connection):
                connection.execute(QUERIES["insert_card"], astuple(row))
