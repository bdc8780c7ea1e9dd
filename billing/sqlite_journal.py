"""The journal in SQLite: entries appended in chains, with all that they add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apsw

from dsfn.billing.chain import Head, Links
from dsfn.billing.checkpoints import Heads
from dsfn.billing.entry import RESERVATION, SETTLEMENT, Entry
from dsfn.billing.paddings import count_new, count_older, is_behind, read_roundings
from dsfn.billing.queries import QUERIES, Execute, Values
from dsfn.billing.repeats import Name, Success, conflict, new_among
from dsfn.billing.rollups import Totals
from dsfn.billing.rounding import Roundings
from dsfn.billing.sqlite import transaction
from dsfn.functions.errors import Conflict

CHAIN = 0
Beside = Callable[[Execute], None]


def _nothing(execute: Execute) -> None:
    """Nothing is written beside most entries."""


class SqliteJournal:
    """Appends to the journal of one connection, whose only writer this is."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._head: Head | None = None
        self._roundings = Roundings()

    def append(self, entries: Sequence[Entry], beside: Beside = _nothing) -> None:
        """Adds all entries or none, in a transaction; those that are there already are left as
        they are. `beside` writes what belongs to them. Raises `Conflict`, `StorageFull`,
        `StoreUnavailable`."""
        try:
            try:
                with transaction(self._connection):
                    beside(self.execute)
                    self.write(entries)
            except apsw.ConstraintError:
                # Something is there already. That is rare, so only now it is looked up what.
                self._head = None
                with transaction(self._connection):
                    beside(self.execute)
                    self.write(new_among(entries, self.find, self._has_succeeded))
        except BaseException as error:
            self._head = None
            # Sums are of 64 bits, too.
            if isinstance(error, apsw.ConstraintError | OverflowError):
                raise Conflict(f"The ledger refuses these rows: {error}.") from error
            raise

    def write(self, entries: Sequence[Entry]) -> None:
        """Adds entries that are new, inside a transaction of the caller.

        Raises `apsw.ConstraintError` when one is not new, `Conflict`.
        """
        before = self._head or self.read_head()
        links = Links(CHAIN, before)
        connection = self._connection
        connection.executemany(
            QUERIES["insert_entry"],
            ((seq, *entry, digest) for seq, entry, _, digest in links.follow(entries)),
        )
        self._head, totals = links.head, links.totals()
        connection.executemany(
            QUERIES["add_rollup"], [(*key, *sums) for key, sums in totals.sums.items()]
        )
        first = before.seq + 1
        connection.executemany(
            QUERIES["add_balance"],
            [
                (*account, balance, account in totals.closed, first)
                for account, balance in totals.balances.items()
            ],
        )
        if totals.reservations:
            self._reserve(totals, entries)
        if self._roundings.spans:
            count_new(self.execute, self._roundings, CHAIN, before.seq, entries)

    def build_paddings(self, limit: int) -> int:
        """See `Ledger`."""
        self._roundings = read_roundings(self.execute, self._roundings)
        if not is_behind(self.execute, self._roundings, CHAIN):
            return 0
        with transaction(self._connection):
            return count_older(self.execute, self._roundings, CHAIN, limit)

    def execute(self, query: str, values: Values) -> list[Any]:
        """Executes a statement by its name."""
        return self._connection.execute(QUERIES[query], values).fetchall()

    def find(self, name: Name) -> Entry | None:
        """The entry of a tenant, source and id."""
        found: Any = self._connection.execute(QUERIES["select_entry"], name).fetchone()
        return None if found is None else Entry._make(found[2:-1])

    def read_head(self) -> Head:
        """The last row that is in the database."""
        found: Any = self._connection.execute(QUERIES["select_head"]).fetchone()
        return Head() if found is None else Head(*found)

    def heads(self) -> Heads:
        """The last row of the chain, if there is one."""
        head = self._head or self.read_head()
        return ((CHAIN, head),) if head.seq else ()

    def _has_succeeded(self, success: Success) -> bool:
        found = self._connection.execute(QUERIES["select_success"], success).fetchone()
        return found is not None

    def _reserve(self, totals: Totals, entries: Iterable[Entry]) -> None:
        """Notes which reservations are open. Money that was not set aside cannot be given back."""
        counts = totals.reservations.items()
        connection = self._connection
        opened = [name for name, count in counts if count > 0]
        settled = [name for name, count in counts if count < 0]
        connection.executemany(QUERIES["open_reservation"], opened)
        before = connection.total_changes()
        connection.executemany(QUERIES["settle_reservation"], settled)
        all_were_open = connection.total_changes() - before == len(settled)
        for entry in entries:
            if entry.source == SETTLEMENT:
                first = self.find((entry.tenant, RESERVATION, entry.id))
                if first is None or not all_were_open:
                    raise conflict(entry, "is of a reservation that is not open")
                if (first.amount, first.commodity) != (entry.amount, entry.commodity):
                    raise conflict(entry, "is not the amount that was reserved")
