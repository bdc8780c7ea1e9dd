"""A ledger from before there was a journal: one table with a row for each call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import STATUSES, Usage
from dsfn.functions.errors import Conflict, UsageError

OLD_SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    seq             INTEGER PRIMARY KEY, -- the order of posting
    invocation_id   TEXT NOT NULL UNIQUE,
    tenant          TEXT NOT NULL,
    caller          TEXT NOT NULL,
    function        TEXT NOT NULL,
    revision        TEXT NOT NULL,
    device_class    TEXT NOT NULL,
    started_at_us   INTEGER NOT NULL CHECK (started_at_us >= 0),
    busy_us         INTEGER NOT NULL CHECK (busy_us >= 0),
    held_us         INTEGER NOT NULL CHECK (held_us >= 0),
    restore_us      INTEGER NOT NULL CHECK (restore_us >= 0),
    -- Written out: an IN list would be built anew for each row.
    status          TEXT NOT NULL CHECK (
        status = 'succeeded' OR status = 'failed' OR status = 'cancelled'
        OR status = 'rejected' OR status = 'platform'),
    error           TEXT NOT NULL,
    idempotency_key TEXT NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS usage_by_start ON usage (started_at_us);

-- Calls that ran over a midnight are split there.
CREATE INDEX IF NOT EXISTS usage_over_midnight ON usage (started_at_us)
    WHERE (started_at_us + held_us - 1) / 86400000000 > started_at_us / 86400000000;

-- What each function took lately is asked for whenever workflows are planned.
CREATE INDEX IF NOT EXISTS usage_by_function ON usage (function, started_at_us);

-- One key is one success, whatever the callers do.
CREATE UNIQUE INDEX IF NOT EXISTS usage_one_success_per_key
    ON usage (tenant, function, idempotency_key)
    WHERE status = 'succeeded' AND idempotency_key <> '';

CREATE TRIGGER IF NOT EXISTS usage_is_never_updated BEFORE UPDATE ON usage
BEGIN
    SELECT RAISE(ABORT, 'the ledger is never updated');
END;

CREATE TRIGGER IF NOT EXISTS usage_is_never_deleted BEFORE DELETE ON usage
BEGIN
    SELECT RAISE(ABORT, 'the ledger is never deleted from');
END;

-- REPLACE deletes without firing the trigger above, so a repeat must never get that far:
-- the row is skipped here, and `post` sees that nothing was inserted.
CREATE TRIGGER IF NOT EXISTS usage_is_never_replaced BEFORE INSERT ON usage
WHEN EXISTS (SELECT 1 FROM usage WHERE invocation_id = NEW.invocation_id)
    OR EXISTS (SELECT 1 FROM usage WHERE seq = NEW.seq)
    OR (NEW.status = 'succeeded' AND NEW.idempotency_key <> '' AND EXISTS (
        SELECT 1 FROM usage
        WHERE tenant = NEW.tenant AND function = NEW.function
            AND idempotency_key = NEW.idempotency_key
            AND status = 'succeeded' AND idempotency_key <> ''))
BEGIN
    SELECT RAISE(IGNORE);
END;
"""
COLUMNS = 13


@pytest.fixture
def rows(make_usage: Callable[..., Usage]) -> list[Usage]:
    """Calls of every status; those that restored something have no other row that says so."""
    return [
        make_usage(
            invocation_id=f"i-{n}",
            started_at_us=1_790_000_000_000_000 + n * 10**10,
            restore_us=7 * (n % 2),
            status=STATUSES[n % len(STATUSES)],
            idempotency_key=f"k-{n}" if n % 3 else "",
            error="HandlerRaised" if n % 2 else "",
        )
        for n in range(30)
    ]


@pytest.fixture
def path(tmp_path: Path, rows: list[Usage]) -> Path:
    found = tmp_path / "ledger.db"
    with closing(apsw.Connection(str(found))) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute(OLD_SCHEMA)
        marks = ", ".join("?" * COLUMNS)
        values = [tuple(getattr(row, n) for n in row.__slots__[:COLUMNS]) for row in rows]
        connection.executemany(f"INSERT INTO usage VALUES (NULL, {marks})", values)
    return found


def tables(path: Path) -> set[Any]:
    with closing(apsw.Connection(str(path))) as connection:
        return {n for (n,) in connection.execute("SELECT name FROM sqlite_schema")}


def test_its_rows_are_taken_over_once_and_stay_what_they_were(
    path: Path, rows: list[Usage]
) -> None:
    for _ in range(2):
        with closing(SqliteLedger(path)) as ledger:
            assert list(ledger.between(0, 2**62)) == rows
            assert ledger.usage("i-7") == rows[7]
            found = ledger.verify()
            assert (found.ok, found.rows) == (True, len(rows) + 12)
    assert not {name for name in tables(path) if str(name).startswith("usage")}


def test_what_devices_were_held_for_is_in_the_journal(path: Path, rows: list[Usage]) -> None:
    with closing(SqliteLedger(path)) as ledger:
        (times,) = ledger.device_times(0, 2**62)
    ran = [row for row in rows if row.status != "rejected"]
    assert times.requests_us == sum(row.held_us for row in ran)
    assert times.restore_us == sum(row.restore_us for row in ran)
    assert times.held_us == times.requests_us + times.restore_us


def test_rows_that_are_posted_again_are_known(path: Path, rows: list[Usage]) -> None:
    with closing(SqliteLedger(path)) as ledger:
        ledger.post(rows)
        with pytest.raises(Conflict):
            ledger.post([Usage(**{**_fields(rows[3]), "held_us": 999_999})])
        assert list(ledger.between(0, 2**62)) == rows


def test_when_it_cannot_be_taken_over_all_of_it_stays(
    path: Path, rows: list[Usage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsfn.billing.sqlite_takeover._ROWS_AT_ONCE", 10)
    with closing(apsw.Connection(str(path))) as connection:
        # A row that no ledger would ever have taken, far from the first.
        connection.execute("DROP TRIGGER usage_is_never_updated")
        connection.execute("UPDATE usage SET started_at_us = 1 << 62 WHERE seq = 25")
    with pytest.raises(
        UsageError, match="Row 25 of the ledger's old table cannot be taken over: started_at"
    ):
        SqliteLedger(path)
    assert "usage" in tables(path)
    with closing(apsw.Connection(str(path))) as connection:
        assert connection.execute("SELECT count(*) FROM usage").fetchall() == [(30,)]
        assert connection.execute("SELECT count(*) FROM entries").fetchall() == [(0,)]
        connection.execute("UPDATE usage SET started_at_us = 1 WHERE seq = 25")
    with closing(SqliteLedger(path)) as ledger:
        assert len(list(ledger.between(0, 2**62))) == len(rows)


def _fields(row: Usage) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__slots__}
