"""The ledger in one SQLite file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import apsw

from dsfn.billing import sqlite_usage
from dsfn.billing.entry import (
    USAGE,
    Entry,
    entries_of,
    interval_of,
    reservation_of,
    reversal_of,
    usage_of,
)
from dsfn.billing.interval import Interval
from dsfn.billing.issued import Issue
from dsfn.billing.leases import closing_of
from dsfn.billing.ledger import Crossing, DeviceTime, RecentCall, UsageSum
from dsfn.billing.periods import DAY_US
from dsfn.billing.posting import Posting
from dsfn.billing.reservation import Reservation
from dsfn.billing.selection import Selection
from dsfn.billing.sqlite import (
    BUSY_TIMEOUT_MS,
    Checkpointer,
    connect,
    storage_errors,
    transaction,
)
from dsfn.billing.sqlite_documents import SCHEMA as DOCUMENTS_SCHEMA
from dsfn.billing.sqlite_documents import SqliteDocuments, closed_until_us, insert_issue
from dsfn.billing.sqlite_journal import QUERIES, Beside, SqliteJournal
from dsfn.billing.sqlite_lock import WriterLock
from dsfn.billing.sqlite_takeover import take_over
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict

_Bindings = Mapping[str, int | str]


class SqliteLedger:
    """A `Ledger` in one SQLite file, with one writer.

    `post` and `correct` may be called in any thread; reads open their own connection and may
    run beside them.
    """

    def __init__(self, path: Path) -> None:
        """Opens or makes the ledger.

        Raises `UsageError` when another process writes to it, `StorageFull`.
        """
        self._path = path
        self._lock = WriterLock(path)
        try:
            self._connection = connect(path, QUERIES["schema"] + DOCUMENTS_SCHEMA)
            self.closed_until_us = closed_until_us(self._connection)
            self._billed_from_us = self.closed_until_us
            self._journal = SqliteJournal(self._connection)
            take_over(self._connection, self._journal)
            self._checkpointer = Checkpointer(path)
        except BaseException:
            self._lock.release()
            raise
        self._turn = Lock()
        self.documents = SqliteDocuments(self._reader, self._keep)

    def post(self, rows: Sequence[Posting]) -> None:
        """Writes all of `rows` or none; when it returns they survive `kill -9`.

        A row that is there already, field for field, is left as it is. Raises `Conflict`
        (with the row's `invocation_id` or `id`) for a row that is there with another body, for
        a second success under one idempotency key, and for money given back that was not set
        aside; `StorageFull` when the disk has no room, `StoreUnavailable` when another program
        keeps the database locked.
        """
        if rows:
            with self._turn:
                until_us = self._billed_from_us
                self._journal.append([e for row in rows for e in entries_of(row, until_us)])

    def correct(self, invocation_id: str, replacement: Usage) -> None:
        """Takes the row of a call back and posts another in its place, with an id of its own.

        Raises `Conflict` when there is no such call, when it was corrected before by another,
        and when the time that its lease held would no longer be accounted for.
        """
        with self._turn:
            first = self._journal.find((replacement.tenant, USAGE, invocation_id))
            if first is None:
                raise Conflict(f"There is no call {invocation_id}.", invocation_id=invocation_id)
            new = entries_of(replacement, self._billed_from_us)[0]
            if (first.credit, first.amount) != (new.credit, new.amount):
                raise Conflict(
                    f"The correction of {invocation_id} must hold the same lease for as long.",
                    invocation_id=invocation_id,
                )
            self._journal.append([reversal_of(first, self._billed_from_us), new])

    def usage(self, invocation_id: str) -> Usage | None:
        """The row of one invocation."""
        return next(self._usage("select_call", {"id": invocation_id}), None)

    def between(self, start_us: int, end_us: int) -> Iterator[Usage]:
        """The rows of calls that started in [start_us, end_us), by their start."""
        return self._usage("select_between", {"start_us": start_us, "end_us": end_us})

    def usage_of_run(self, run: str) -> Iterator[Usage]:
        """The rows of all calls of a run, by their start."""
        return self._usage("select_run", {"run": run})

    def intervals(self, start_us: int, end_us: int) -> Iterator[Interval]:
        """The intervals that started in [start_us, end_us), by their start."""
        bounds = {"start_us": start_us, "end_us": end_us}
        return map(interval_of, self._entries("select_intervals", bounds))

    def sums(self, selection: Selection) -> list[UsageSum]:
        """The rows of calls that lie in a stretch of time and in one day, UTC, added up; the
        others that have a part in it are `crossing`. What was taken back counts negatively."""
        with closing(self._reader()) as connection:
            return sqlite_usage.sums(connection, selection)

    def paddings(
        self, selection: Selection, device_class: str, basis: str, increment_us: int
    ) -> list[UsageSum]:
        """Of the rows of `sums` on one device class: what is added when the time of each, by
        `basis`, is rounded up to a multiple of `increment_us`. All else is 0."""
        with closing(self._reader()) as connection:
            return sqlite_usage.paddings(connection, selection, device_class, basis, increment_us)

    def crossing(self, selection: Selection) -> Iterator[Crossing]:
        """The rows of calls that have a part in a stretch of time and do not lie in it whole,
        or not in one day."""
        with closing(self._reader()) as connection:
            yield from sqlite_usage.crossing(connection, selection)

    def months(self) -> list[str]:
        """The months in which something is billed, in order."""
        with closing(self._reader()) as connection:
            return sqlite_usage.months(connection)

    def first_service_us(self, month: str) -> int | None:
        """The first day with usage that is billed in a month, as its first instant, or None."""
        with closing(self._reader()) as connection:
            return sqlite_usage.first_service_us(connection, month)

    def device_times(self, start_us: int, end_us: int) -> list[DeviceTime]:
        """For each device class, by name, the time in [start_us, end_us) that its devices were
        held, and what for. A lease that is open counts as held what its rows come to."""
        times: dict[str, dict[str, int]] = {}
        for device_class, kind, time_us in self._read("sum_devices", _bounds(start_us, end_us)):
            times.setdefault(device_class, {})[kind] = time_us
        return [
            DeviceTime(name, sum(kinds.values()), *map(kinds.get, _KINDS, [0] * len(_KINDS)))
            for name, kinds in sorted(times.items())
        ]

    def recent(self, functions: Iterable[str], limit: int) -> dict[str, list[RecentCall]]:
        """The last calls of each function that ran and were not called off, newest first, at most
        `limit` of each."""
        with closing(self._reader()) as connection:
            return {
                function: [
                    RecentCall(*found)
                    for found in connection.execute(QUERIES["select_recent"], (function, limit))
                ]
                for function in functions
            }

    def balance(self, account: str, commodity: str) -> int:
        """What an account has: all that was debited to it less all that was credited."""
        found = self._read("select_balance", {"account": account, "commodity": commodity})
        return int(found[0][0]) if found else 0

    def reservations_open(self, tenant: str) -> list[Reservation]:
        """The reservations of a tenant that are neither posted nor void, the oldest first."""
        return [
            reservation_of(e) for e in self._entries("select_open_reservations", {"tenant": tenant})
        ]

    def start_closing(self, end_us: int) -> None:
        """Has whatever is posted from now on be billed in the month that begins at `end_us`, or in
        a later one, as if those before were closed already."""
        with self._turn:
            self._billed_from_us = max(self._billed_from_us, end_us)

    def issue(self, issue: Issue) -> None:
        """Keeps documents, their rows in the journal and the month that they close: all or
        nothing. When it returns they survive `kill -9`.

        Raises `Conflict` for what is there already, `StorageFull`.
        """
        with self._turn:
            entries = [e for charge in issue.charges for e in entries_of(charge, 0)]
            self._journal.append(entries, partial(insert_issue, issue=issue))
            if issue.month is not None:
                self.closed_until_us = issue.month.end_us

    def close(self) -> None:
        """Moves everything into the database file and closes it."""
        self._connection.close()
        self._checkpointer.close()
        self._lock.release()

    def _keep(self, write: Beside) -> None:
        """Writes something that is no entry."""
        with self._turn, transaction(self._connection) as connection:
            write(connection)

    def close_leases(self) -> None:
        """Closes the leases of a writer that was killed: no replica outlives it. For when all
        the rows that it owed are posted. Raises `StorageFull`."""
        found: list[Any] = self._connection.execute(QUERIES["select_open_leases"]).fetchall()
        intervals = [
            interval
            for balance, *values in found
            for interval in closing_of(Entry._make(values[2:-1]), balance)
        ]
        if intervals:
            self._journal.append(
                [e for interval in intervals for e in entries_of(interval, self._billed_from_us)]
            )

    def _usage(self, query: str, bindings: _Bindings) -> Iterator[Usage]:
        return map(usage_of, self._entries(query, bindings))

    def _entries(self, query: str, bindings: _Bindings) -> Iterator[Entry]:
        """The rows of a query as of now, which is when this is called the first time."""
        with closing(self._reader()) as connection:
            for values in connection.execute(QUERIES[query], bindings):
                yield Entry._make(values[2:-1])

    def _read(self, query: str, bindings: _Bindings) -> list[Any]:
        with closing(self._reader()) as connection:
            return connection.execute(QUERIES[query], bindings).fetchall()

    def _reader(self) -> apsw.Connection:
        with storage_errors(self._path):
            connection = apsw.Connection(str(self._path))
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            connection.execute("PRAGMA query_only=ON")
        return connection


_KINDS = ("usage", "restore", "idle")


def _bounds(start_us: int, end_us: int) -> dict[str, int | str]:
    """A stretch of time, and the days that lie in it whole: [first_day, last_day)."""
    first_day, last_day = -(-start_us // DAY_US), end_us // DAY_US
    if first_day >= last_day:
        # All of it is edges: from the start up to the end, and from the end on nothing.
        first_day = last_day = max(first_day, last_day)
    return {
        "start_us": start_us,
        "end_us": end_us,
        "first_day": first_day,
        "last_day": last_day,
    }
