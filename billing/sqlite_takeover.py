"""Takes over what ledgers kept before they had a journal: a table with one row for each call."""

from __future__ import annotations

from typing import Any

import apsw

from dsfn.billing.entry import Entry, entries_of
from dsfn.billing.queries import QUERIES
from dsfn.billing.sqlite import transaction
from dsfn.billing.sqlite_journal import SqliteJournal
from dsfn.billing.usage import Usage
from dsfn.functions.errors import UsageError

_ROWS_AT_ONCE = 10_000


def take_over(connection: apsw.Connection, journal: SqliteJournal) -> None:
    """Moves the rows of the table into the journal, all of them or, when that is stopped, none.

    Raises `StorageFull`, and `UsageError` for a row that makes no sense.
    """
    if connection.execute(QUERIES["has_usage_table"]).fetchone() is None:
        return
    with transaction(connection):
        last = 0
        while True:
            values = (last, _ROWS_AT_ONCE)
            rows: list[Any] = connection.execute(QUERIES["select_usage_table"], values).fetchall()
            if not rows:
                break
            journal.write([entry for row in rows for entry in _entries(row)])
            last = rows[-1][0]
        connection.execute(QUERIES["drop_usage_table"])


def _entries(row: tuple[Any, ...]) -> tuple[Entry, ...]:
    try:
        return entries_of(Usage(*row[1:]), closed_until_us=0)
    except ValueError as error:
        raise UsageError(
            f"Row {row[0]} of the ledger's old table cannot be taken over: {error}."
        ) from error
