"""One chain of a ledger in PostgreSQL: a connection that alone writes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field

from psycopg import errors

from dsfn.billing.accounts import lease_of
from dsfn.billing.address import Address
from dsfn.billing.chain import Head, Linked, Links
from dsfn.billing.entry import Entry
from dsfn.billing.paddings import count_new, count_older
from dsfn.billing.postgres import (
    RETRY_AFTER_S,
    Connection,
    Watchdog,
    connect,
    server_errors,
)
from dsfn.billing.postgres_copy import COPY, copy_data, copy_row
from dsfn.billing.postgres_queries import QUERIES, executing
from dsfn.billing.postgres_repeats import note_reservations, without_repeats
from dsfn.billing.queries import Execute
from dsfn.billing.repeats import Name, name_of
from dsfn.billing.rollups import RollupKey, RollupSum, Totals
from dsfn.billing.rounding import Roundings
from dsfn.functions.errors import Conflict, StorageFull, StoreUnavailable, UsageError
from dsfn.functions.values import dataclass

# Of the advisory locks of writers, one for each chain.
LOCK = 0x6473666E
# How long the session of a writer that was killed may take to end.
_LOCK_TIMEOUT_S = 3
# Each time, what other writers had in their hands is in the ledger or is not.
_MAX_ATTEMPTS = 20

# The part that is all of an account.
_WHOLE = 0
_CHAIN_KEY = "entries_pkey"
_KEYS = ("chain", *RollupKey._fields)
_SUMS = (*_KEYS, *RollupSum._fields)
_BALANCES = ("account", "commodity", "part", "balance", "closed", "first_chain", "first_seq")
# All rows of a batch as one JSON array: it is made, sent and read several times as fast as as many
# statements, and as arrays of each column.
_ADD_SUMS = f"""
INSERT INTO rollups AS old ({", ".join(_SUMS)})
SELECT {", ".join(_SUMS)} FROM json_populate_recordset(NULL::rollups, %s)
ON CONFLICT ({", ".join(_KEYS)}) DO UPDATE
SET {", ".join(f"{name} = old.{name} + excluded.{name}" for name in RollupSum._fields)}
"""
_ADD_BALANCES = f"""
INSERT INTO accounts AS old ({", ".join(_BALANCES)})
SELECT {", ".join(_BALANCES)} FROM json_populate_recordset(NULL::accounts, %s)
ON CONFLICT (account, commodity, part) DO UPDATE
SET balance = old.balance + excluded.balance, closed = greatest(old.closed, excluded.closed)
"""
# The session that this process had before may live on at the server, cut off and not noticed.
_END_PREDECESSOR = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND pid = %s AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

Beside = Callable[[Execute], None]


def write_nothing(execute: Execute) -> None:
    """Nothing is written beside most entries."""


@dataclass(eq=False)
class ChainWriter:
    """Appends to one chain. Belongs to one thread at a time. `roundings`: by which its rows are
    counted as they are posted."""

    address: Address
    watchdog: Watchdog
    chain: int
    roundings: Roundings = field(default_factory=Roundings)
    _connection: Connection | None = field(default=None, repr=False)
    _backend: int = 0
    _head: Head = field(default_factory=Head)

    def open(self) -> None:
        """Connects and takes the chain. Raises `UsageError` when another process has it,
        `StoreUnavailable`."""
        connection = connect(self.address)
        try:
            with server_errors(self.address), self.watchdog.watching(connection):
                connection.execute(_END_PREDECESSOR, (LOCK, self.chain, self._backend))
                self._lock(connection)
                found = connection.execute(QUERIES["select_head"], {"chain": self.chain}).fetchone()
        except BaseException:
            connection.close()
            raise
        self._head = Head(*found) if found else Head()
        self._connection, self._backend = connection, connection.info.backend_pid

    def post(self, entries: Sequence[Entry], beside: Beside = write_nothing) -> None:
        """Writes all entries or none; those that are there already are left as they are. `beside`
        writes what belongs to them.

        A connection that was lost meanwhile is made anew, once. Raises `Conflict`, `StorageFull`,
        and `StoreUnavailable`, after which the same entries may be there or not.
        """
        was_open = self._connection is not None
        try:
            self._post(entries, beside)
        except StoreUnavailable:
            if not was_open:
                raise
            self._post(entries, beside)

    def build_paddings(self, chain: int, limit: int) -> int:
        """Counts older rows of this chain, or of one that nobody writes: see `count_older`. Raises
        as `post`."""
        counted = 0

        def count(execute: Execute) -> None:
            nonlocal counted
            counted = count_older(execute, self.roundings, chain, limit)

        self.post((), count)
        return counted

    def close(self) -> None:
        """Lets go of the chain."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, entries: Sequence[Entry], beside: Beside) -> None:
        connection = self._connection or self._open_again()
        try:
            with server_errors(self.address), self.watchdog.watching(connection):
                self._append_new(connection, entries, beside)
        except (Conflict, StorageFull):
            raise
        except BaseException:
            # What became of the transaction is not known, so neither is the chain's head.
            self.close()
            raise

    def _open_again(self) -> Connection:
        try:
            self.open()
        except UsageError as error:
            raise self._unavailable("another process has it now") from error
        assert self._connection is not None
        return self._connection

    def _append_new(self, connection: Connection, entries: Sequence[Entry], beside: Beside) -> None:
        fresh = entries
        for _ in range(_MAX_ATTEMPTS):
            try:
                with connection.transaction():
                    beside(executing(connection))
                    head = self._append(connection, fresh)
                self._head = head
                return
            except errors.UniqueViolation as error:
                if error.diag.table_name != "entries":
                    raise Conflict(f"The ledger refuses these rows: {error}.") from error
                if error.diag.constraint_name == _CHAIN_KEY:
                    raise self._unavailable("another process wrote to it") from error
                fresh = without_repeats(connection, entries)
            except (errors.IntegrityError, errors.DataError) as error:
                # A sum that no longer fits into 64 bits, say.
                raise Conflict(f"The ledger refuses these rows: {error}.") from error
            except errors.DeadlockDetected:
                # Another writer has the same keys in its hands, and waits for ours.
                continue
        raise self._unavailable("other writers keep posting the same rows")

    def _append(self, connection: Connection, entries: Sequence[Entry]) -> Head:
        links = Links(self.chain, self._head)
        # In an order that all writers keep to, so that they do not wait for each other in circles.
        rows = sorted(links.follow(entries), key=_name)
        if rows:
            with connection.cursor() as cursor, cursor.copy(COPY) as copy:
                copy.write(copy_data(copy_row(self.chain, row) for row in rows))
            self._add_totals(connection, links.totals(), entries)
        return links.head

    def _add_totals(self, connection: Connection, totals: Totals, entries: Sequence[Entry]) -> None:
        chain, first = self.chain, self._head.seq + 1
        sums = [(chain, *key, *added) for key, added in totals.sums.items()]
        balances = [
            (
                *account,
                chain if lease_of(account[0]) is None else _WHOLE,
                added,
                int(account in totals.closed),
                chain,
                first,
            )
            # In an order that all writers keep to, too.
            for account, added in sorted(totals.balances.items())
        ]
        with connection.pipeline():
            connection.execute(_ADD_SUMS, (_records(_SUMS, sums),))
            connection.execute(_ADD_BALANCES, (_records(_BALANCES, balances),))
        if totals.reservations:
            note_reservations(connection, totals, entries)
        if self.roundings.spans:
            execute = executing(connection)
            count_new(execute, self.roundings, chain, self._head.seq, entries)

    def _lock(self, connection: Connection) -> None:
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'")
                connection.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK, self.chain))
        except errors.LockNotAvailable as error:
            raise UsageError(
                f"Another process writes the ledger {self.address}; a ledger has one writer: stop"
                " that one first."
            ) from error

    def _unavailable(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"Nothing can be posted to chain {self.chain} of the ledger {self.address}: {reason}.",
            reason=reason,
            retry_after_s=RETRY_AFTER_S,
        )


def _records(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows as PostgreSQL reads many at once."""
    return json.dumps([dict(zip(names, row, strict=True)) for row in rows])


def _name(row: Linked) -> Name:
    """What two rows never have in common."""
    return name_of(row[1])
