"""The books on disk: every invocation's usage exactly once, appended and never changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import apsw

from dsfn.billing.ledger import DeviceTime, RecentCall, UsageSum
from dsfn.billing.selection import Selection
from dsfn.billing.sqlite import (
    BUSY_TIMEOUT_MS,
    Checkpointer,
    connect,
    load_queries,
    storage_errors,
    transaction,
)
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict

_QUERIES = load_queries("dsfn.billing", "sql/ledger.sql")
_INSERT = _QUERIES["insert_usage"]
_row = attrgetter(*(field.name for field in fields(Usage)[:13]))


class SqliteLedger:
    """The ledger in one SQLite file.

    `post` belongs to one thread; reads open their own connection and may run
    in any thread beside it.
    """

    def __init__(self, path: Path) -> None:
        """Opens or makes the ledger. Raises `UsageError`, `StorageFull`."""
        self._path = path
        self._writer = connect(path, _QUERIES["schema"])
        self._checkpointer = Checkpointer(path)

    def post(self, rows: Sequence[Usage]) -> None:
        """Writes all of `rows` or none; when it returns they survive `kill -9`.

        A row that is there already, field for field, is left as it is. Raises
        `Conflict` (field `invocation_id`) for a row that is there with another
        body, and for a second success under one idempotency key; `StorageFull`
        when the disk has no room.
        """
        with transaction(self._writer) as connection:
            before = connection.total_changes()
            connection.executemany(_INSERT, map(_row, rows))
            if connection.total_changes() - before != len(rows):
                _require_repeats(connection, rows)

    def usage(self, invocation_id: str) -> Usage | None:
        """The row of one invocation."""
        with closing(self._reader()) as connection:
            found = connection.execute(_QUERIES["select_usage"], (invocation_id,)).fetchone()
        return None if found is None else Usage(*found)

    def between(self, start_us: int, end_us: int) -> Iterator[Usage]:
        """The rows that started in [start_us, end_us), by their start."""
        with closing(self._reader()) as connection:
            for found in connection.execute(_QUERIES["select_between"], (start_us, end_us)):
                yield Usage(*found)

    @property
    def closed_until_us(self) -> int:
        return 0

    def first_service_us(self, month: str) -> int | None:
        return None

    def device_times(self, start_us: int, end_us: int) -> list[DeviceTime]:
        return []

    def sums(self, selection: Selection) -> list[UsageSum]:
        """The rows that lie in [start_us, end_us) and in one day, UTC, added up by the database;
        the others that have a part in it are `crossing`."""
        return self._sums("sum_whole", selection.bindings())

    def paddings(
        self, selection: Selection, device_class: str, basis: str, increment_us: int
    ) -> list[UsageSum]:
        """Of the rows of `sums` on one device class: what is added when the time of each, by
        `basis`, is rounded up to a multiple of `increment_us`. All else is 0."""
        more: dict[str, int | str] = {
            "device_class": device_class,
            "basis": basis,
            "increment_us": increment_us,
        }
        return self._sums("sum_padding", {**selection.bindings(), **more})

    def crossing(self, selection: Selection) -> Iterator[Usage]:
        """The rows that have a part in [start_us, end_us) and do not lie in it whole, or not in
        one day."""
        with closing(self._reader()) as connection:
            found = connection.execute(_QUERIES["select_crossing"], selection.bindings())
            for each in found:
                yield Usage(*each)

    def _sums(self, query: str, bindings: Mapping[str, int | str]) -> list[UsageSum]:
        with closing(self._reader()) as connection:
            found: Any = connection.execute(_QUERIES[query], bindings)
            return [UsageSum(*values) for values in found]

    def recent(self, functions: Iterable[str], limit: int) -> dict[str, list[RecentCall]]:
        """The last calls of each function that ran and were not called off, newest first, at most
        `limit` of each."""
        with closing(self._reader()) as connection:
            return {
                function: [
                    RecentCall(*found)
                    for found in connection.execute(_QUERIES["select_recent"], (function, limit))
                ]
                for function in functions
            }

    def close(self) -> None:
        """Moves everything into the database file and closes it."""
        self._writer.close()
        self._checkpointer.close()

    def _reader(self) -> apsw.Connection:
        with storage_errors(self._path):
            connection = apsw.Connection(str(self._path))
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            connection.execute("PRAGMA query_only=ON")
        return connection


def _require_repeats(connection: apsw.Connection, rows: Sequence[Usage]) -> None:
    """The database skipped some of `rows`: fine when those very rows are there."""
    for row in rows:
        found = connection.execute(_QUERIES["select_usage"], (row.invocation_id,)).fetchone()
        if found is None:
            raise Conflict(
                f"Another invocation of {row.function} succeeded under the same idempotency key.",
                invocation_id=row.invocation_id,
                idempotency_key=row.idempotency_key,
            )
        if found != _row(row):
            raise Conflict(
                f"Invocation {row.invocation_id} is in the ledger with another body.",
                invocation_id=row.invocation_id,
            )
