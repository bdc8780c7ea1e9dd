"""`dsfn ledger migrate`: a ledger is moved to PostgreSQL, and both are the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw
import psycopg
import pytest

from dsfn.billing import moving
from dsfn.billing.charge import Charge
from dsfn.billing.evidence import NO_EVIDENCE
from dsfn.billing.interval import Interval
from dsfn.billing.invoice import canonical_bytes, digest_of
from dsfn.billing.issued import ClosedMonth, Issue, Issued
from dsfn.billing.moving import Moved, move
from dsfn.billing.periods import Month
from dsfn.billing.postgres_ledger import PostgresLedger
from dsfn.billing.rates import RateCard, RateStore
from dsfn.billing.reservation import Reservation
from dsfn.billing.selection import Selection
from dsfn.billing.signing import SigningKey
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, StoreUnavailable, UsageError

MakeUsage = Callable[..., Usage]
NOVEMBER = Month.parse("2026-11")
AT_US = NOVEMBER.start_us + 1000


def document(number: str, key: SigningKey) -> Issued:
    columns = {
        "number": number,
        "kind": "invoice",
        "month": "2026-11",
        "tenant": "t",
        "total_minor": 12,
        "reverses": "",
    }
    content = canonical_bytes({**columns, "exponent": 2})
    return Issued(
        **columns,  # type: ignore[arg-type]
        issued_at_us=AT_US,
        idempotency_key="",
        document=content.decode(),
        sha256=digest_of(content),
        public_key=key.public_key,
        signature=key.sign(content).hex(),
    )


def closed_month() -> ClosedMonth:
    content = canonical_bytes({"month": "2026-11", "total_minor": 12, "lines": []})
    return ClosedMonth("2026-11", NOVEMBER.end_us, AT_US, content.decode(), digest_of(content))


def fill(path: Path, make_usage: MakeUsage, calls: int = 50) -> None:
    """A ledger that has some of everything."""
    with closing(SqliteLedger(path)) as ledger:
        store = RateStore(ledger.cards(), RateCard(), AT_US)
        store.add(replace(RateCard(), effective_from_us=NOVEMBER.start_us), AT_US)
        interval = Interval("idle", "l/1", "l", "cpu", 2, "cpu", "f", "r", "t", AT_US, 77)
        ledger.post([interval, Reservation("reserve", "r", "t", "k", "EUR", 5, AT_US)])
        for n in range(calls):
            call = make_usage(
                invocation_id=f"i-{n}", started_at_us=AT_US + n, tenant="日本" if n % 3 else "t",
                function=f"f{n % 4}", idempotency_key=f"k-{n}", restore_us=n, lease="l" * (n % 2),
            )  # fmt: skip
            ledger.post([call])
        key = SigningKey.open(path.with_name("ledger-key.pem"))
        ledger.checkpoint(key, AT_US)
        ledger.post([Reservation("reserve", "r2", "t", "k", "EUR", 7, AT_US)])
        charge = Charge("invoice", "2026-11-0001", "t", "USD", 120_000_000, 3, "2026-11", AT_US)
        ledger.start_closing(NOVEMBER.end_us)
        ledger.issue(Issue((document("2026-11-0001", key),), (charge,), closed_month()))
        ledger.documents.keep_print("2026-11-0001", "pdf", b"\0\xff%PDF")
        ledger.checkpoint(key, AT_US + 1)


def moved(path: Path, url: str) -> Moved:
    return move(path, url, NO_EVIDENCE, lambda rows, of_rows: None)


def test_all_that_a_ledger_holds_is_the_same_in_the_database(
    tmp_path: Path, database: str, make_usage: MakeUsage
) -> None:
    path = tmp_path / "ledger.db"
    fill(path, make_usage)
    found = moved(path, database)
    assert (found.rows, found.moved_rows, found.cards, found.months) == (82, 82, 2, 1)
    assert (found.documents, found.prints, found.checkpoints) == (1, 1, 2)
    with closing(apsw.Connection(str(path))) as connection:
        rows = connection.execute("SELECT * FROM entries ORDER BY seq").fetchall()
    with psycopg.connect(database) as other:
        assert other.execute("SELECT * FROM dsfn.entries ORDER BY seq").fetchall() == rows
    assert rows[-1][-1] == bytes.fromhex(found.head)
    key = SigningKey.open(path.with_name("ledger-key.pem"))
    with closing(SqliteLedger(path)) as old, closing(PostgresLedger(database)) as new:
        for by in ("function", "revision", "day", "run"):
            everything = Selection(0, 2**60, by)
            assert new.sums(everything) == old.sums(everything)
        assert new.device_times(0, 2**60) == old.device_times(0, 2**60)
        assert list(new.between(0, 2**60)) == list(old.between(0, 2**60))
        assert new.reservations_open("t") == old.reservations_open("t")
        assert new.balance("lease/l", "us:cpu") == old.balance("lease/l", "us:cpu")
        assert new.cards().rows() == old.cards().rows()
        assert new.closed_until_us == old.closed_until_us == NOVEMBER.end_us
        assert new.documents.all() == old.documents.all() == [document("2026-11-0001", key)]
        assert new.documents.printed("2026-11-0001", "pdf") == b"\0\xff%PDF"
        assert new.checkpoints(0, 10) == old.checkpoints(0, 10)
        # Its chain goes on where it was.
        new.post([make_usage(invocation_id="after", started_at_us=AT_US)])
        assert new.verify().problems == ()


def test_a_move_that_was_stopped_goes_on_where_it_was(
    tmp_path: Path, database: str, make_usage: MakeUsage, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    fill(path, make_usage)
    monkeypatch.setattr(moving, "PORTION_ROWS", 7)

    def stopped(rows: int, of_rows: int) -> None:
        if rows > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move(path, database, NO_EVIDENCE, stopped)
    found = moved(path, database)
    assert (found.rows, found.moved_rows) == (82, 82 - 35)
    # Once more there is nothing to do, and what came to the file since comes, too.
    assert moved(path, database).moved_rows == 0
    with closing(SqliteLedger(path)) as ledger:
        ledger.post([make_usage(invocation_id="later")])
    assert moved(path, database).moved_rows == 1


def test_a_ledger_that_is_in_use_is_not_moved(
    tmp_path: Path, database: str, make_usage: MakeUsage
) -> None:
    path = tmp_path / "ledger.db"
    with closing(SqliteLedger(path)) as ledger:
        ledger.post([make_usage()])
        with pytest.raises(UsageError, match="Another process writes"):
            moved(path, database)
    with closing(PostgresLedger(database)), pytest.raises(UsageError, match="Another process"):
        moved(path, database)
    assert moved(path, database).rows == 1


def test_nothing_is_moved_into_another_ledgers_database(
    tmp_path: Path, database: str, make_usage: MakeUsage
) -> None:
    path = tmp_path / "ledger.db"
    fill(path, make_usage)
    with closing(PostgresLedger(database)) as other:
        other.post([make_usage(invocation_id="another's")])
    with pytest.raises(Conflict, match="has 1 rows that are not those of the file"):
        moved(path, database)


def test_a_database_that_has_gone_on_since_is_not_moved_to_again(
    tmp_path: Path, database: str, make_usage: MakeUsage
) -> None:
    path = tmp_path / "ledger.db"
    fill(path, make_usage)
    moved(path, database)
    with closing(PostgresLedger(database)) as new:
        new.post([make_usage(invocation_id="after")])
    with pytest.raises(Conflict, match="has 83 rows that are not those of the file"):
        moved(path, database)


def test_a_ledger_that_was_tampered_with_is_not_moved(
    tmp_path: Path, database: str, make_usage: MakeUsage
) -> None:
    path = tmp_path / "ledger.db"
    fill(path, make_usage)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("DROP TRIGGER entries_are_never_updated")
        connection.execute("UPDATE entries SET held_us = 0 WHERE seq = 20")
    with pytest.raises(Conflict, match=r"in ledger\.db is not right, so it is not moved"):
        moved(path, database)
    with psycopg.connect(database) as other:
        assert other.execute("SELECT count(*) FROM dsfn.entries").fetchone() == (0,)


def test_sums_that_differ_in_the_database_are_found(
    tmp_path: Path, database: str, make_usage: MakeUsage
) -> None:
    path = tmp_path / "ledger.db"
    fill(path, make_usage)
    moved(path, database)
    with psycopg.connect(database) as other:
        other.execute("UPDATE dsfn.rollups SET held_us = held_us + 1")
    with pytest.raises(Conflict, match="in the database is not right"):
        moved(path, database)


def test_a_server_that_is_not_there_is_said_in_a_sentence(
    tmp_path: Path, make_usage: MakeUsage
) -> None:
    fill(tmp_path / "ledger.db", make_usage)
    with pytest.raises(StoreUnavailable, match=r"The ledger books at 127\.0\.0\.1:1 does not"):
        moved(tmp_path / "ledger.db", "postgresql://me@127.0.0.1:1/books")
