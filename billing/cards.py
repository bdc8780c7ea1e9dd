"""The rate cards of a ledger, kept beside its journal with a row there for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

from dsfn.billing.posting import Posting
from dsfn.billing.queries import Execute
from dsfn.billing.rates.table import CardRow
from dsfn.billing.record import record_of_card
from dsfn.functions.errors import Conflict, StoreUnavailable
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class KeptCards:
    """The `CardTable` of a ledger. `read` executes what reads; `post` writes a row of the journal
    and what belongs to it, in a transaction."""

    read: Execute
    post: Callable[[Posting, Callable[[Execute], None]], None]

    def rows(self) -> list[CardRow]:
        """All of them, by their numbers. Raises `StoreUnavailable`."""
        return [CardRow(*values) for values in self.read("select_cards", ())]

    def append(self, row: CardRow) -> None:
        """Keeps one more. Raises `StorageFull`, `StoreUnavailable`."""

        def insert(execute: Execute) -> None:
            execute("insert_card", astuple(row))

        try:
            self.post(record_of_card(row), insert)
        except (Conflict, StoreUnavailable):
            # A server may have kept it and been lost before it said so.
            if row not in self.rows():
                raise
