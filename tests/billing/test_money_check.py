"""The check of a ledger names what was done to its cards, months and documents."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw
import psycopg
import pytest
from month_books import at_us, close_month

from dsfn.billing.evidence import NO_EVIDENCE, Evidence
from dsfn.billing.ledger import Ledger
from dsfn.billing.months import Months
from dsfn.billing.parties import Parties
from dsfn.billing.postgres_ledger import PostgresLedger
from dsfn.billing.rates import Rate, RateCard, RateStore
from dsfn.billing.rates.writing import canonical_text, digest_of
from dsfn.billing.signing import SigningKey
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.sqlite_verify import SqliteBooks
from dsfn.billing.usage import Usage
from dsfn.billing.verify import verify

CARD = RateCard(devices={"cpu": Rate(10**12)}, tax=1_900)
_KEPT = ("rate_cards", "closed_months")
MakeUsage = Callable[..., Usage]


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.open(tmp_path / "key.pem")


def fill(ledger: Ledger, key: SigningKey, make_usage: MakeUsage) -> None:
    """Two closed months by a card each, a third card, invoices, a credit note and a print."""
    store = RateStore(ledger.cards(), CARD, 0)
    months = Months(ledger, lambda: store.book, Parties(), key, lambda: None)
    store.add(replace(CARD, effective_from_us=at_us("2026-12-01")), 0)
    store.add(replace(CARD, effective_from_us=at_us("2027-06-01")), 0)
    for number, month in enumerate(("2026-11", "2026-12")):
        for tenant in ("acme", "bob"):
            started_at_us = at_us(f"{month}-10T12:00:00")
            call = make_usage(
                invocation_id=f"{number}", tenant=tenant, started_at_us=started_at_us,
                held_us=5_000_000,
            )  # fmt: skip
            ledger.post([call])
        close_month(months, month)
    months.credit("2026-11-0001", 100, "slow", "", at_us("2027-01-05"))
    ledger.documents.keep_print("2026-11-0001", "pdf", b"%PDF")


def kinds(found_in: Path, evidence: Evidence = NO_EVIDENCE) -> set[str]:
    return {problem.kind for problem in verify(SqliteBooks(found_in), evidence).problems}


@pytest.fixture
def path(tmp_path: Path, key: SigningKey, make_usage: MakeUsage) -> Path:
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        fill(ledger, key, make_usage)
    assert kinds(tmp_path / "ledger.db", Evidence(frozenset({key.public_key}))) == set()
    return tmp_path / "ledger.db"


def tamper(path: Path, statements: str) -> None:
    """Does something that the triggers are there to refuse."""
    with closing(apsw.Connection(str(path))) as connection:
        triggers = "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        for (name,) in connection.execute(triggers).fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statements)


@pytest.mark.parametrize(
    ("statements", "kind"),
    [
        ("UPDATE rate_cards SET document = replace(document, '19', '18') WHERE number = 2", "card"),
        ("UPDATE rate_cards SET effective_from_us = 7 WHERE number = 3", "card"),
        ("DELETE FROM rate_cards WHERE number = 3", "card"),
        ("DELETE FROM rate_cards WHERE number = 1", "card"),
        ("DELETE FROM rate_cards WHERE number > 1", "card"),
        ("DELETE FROM rate_cards", "card"),
        ("UPDATE closed_months SET document = '{}' WHERE month = '2026-11'", "month"),
        ("UPDATE closed_months SET end_us = end_us + 1 WHERE month = '2026-12'", "month"),
        ("DELETE FROM closed_months WHERE month = '2026-12'", "month"),
        ("UPDATE documents SET document = replace(document, '95', '94')", "document"),
        ("UPDATE documents SET total_minor = 1 WHERE number = '2026-12-0001'", "document"),
        ("UPDATE documents SET signature = replace(signature, 'a', 'b')", "document"),
        ("DELETE FROM documents WHERE number = '2026-11-0001'", "document"),
        ("DELETE FROM documents WHERE reverses <> ''", "document"),
        ("DELETE FROM documents; DELETE FROM closed_months", "document"),
        ("UPDATE prints SET number = '2026-11-0009'", "print"),
    ],
)
def test_what_was_done_to_money_is_named(path: Path, statements: str, kind: str) -> None:
    tamper(path, statements)
    assert kind in kinds(path)


@pytest.mark.parametrize(
    ("table", "which", "said", "kind"),
    [
        ("rate_cards", "number = 3", '"pico_per_second":', "card"),
        ("rate_cards", "number = 1", '"tax":', "card"),
        ("closed_months", "month = '2026-11'", '"quantity_us":', "month"),
        ("closed_months", "month = '2026-12'", '"idle_us":', "month"),
    ],
)
def test_what_was_changed_and_has_its_digest_made_anew_is_named(
    path: Path, table: str, which: str, said: str, kind: str
) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        found = connection.execute(f"SELECT document FROM {table} WHERE {which}").fetchall()
    document = str(found[0][0])
    changed = document.replace(said, f"{said}1", 1)
    assert changed != document
    new = f"document = '{changed}', sha256 = '{digest_of(changed)}'"
    tamper(path, f"UPDATE {table} SET {new} WHERE {which}")
    assert kinds(path) == {kind}


def test_a_card_that_was_put_in_is_named_and_stays_so_when_the_ledger_is_opened(
    path: Path,
) -> None:
    card = canonical_text(replace(CARD, effective_from_us=at_us("2027-07-01")))
    values = f"4, {at_us('2027-07-01')}, 0, 'set', '{card}', '{digest_of(card)}'"
    tamper(path, f"INSERT INTO rate_cards VALUES ({values})")
    assert kinds(path) == {"card"}
    SqliteLedger(path).close()
    assert kinds(path) == {"card"}


def test_cards_and_months_of_a_ledger_without_rows_for_them_get_these_when_it_is_opened(
    path: Path,
) -> None:
    with closing(apsw.Connection(str(path))) as old:
        tables = {name: old.execute(f"SELECT * FROM {name}").fetchall() for name in _KEPT}
    fresh = path.with_name("fresh.db")
    SqliteLedger(fresh).close()
    with closing(apsw.Connection(str(fresh))) as new:
        for name, rows in tables.items():
            marks = ", ".join("?" * len(rows[0]))
            new.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)
    # Without its invoices the months say something else than these.
    assert "card" in kinds(fresh)
    with closing(SqliteLedger(fresh)) as ledger:
        assert ledger.balance("records", "nothing") == 0
        found = ledger.verify()
    assert found.rows == 5
    assert {each.detail for each in found.problems} == {
        "The invoices of 2026-11 do not come to its statement.",
        "The invoices of 2026-12 do not come to its statement.",
    }


def test_a_gap_in_the_numbers_of_invoices_is_named(path: Path) -> None:
    tamper(path, "DELETE FROM documents WHERE number = '2026-11-0001'")
    details = {problem.detail for problem in verify(SqliteBooks(path), Evidence()).problems}
    assert "Of the numbers 2026-11-... up to 2, 1 are missing." in details


def test_a_document_that_somebody_else_signed_is_named(
    path: Path, key: SigningKey, tmp_path: Path
) -> None:
    other = SigningKey.open(tmp_path / "other.pem")
    assert kinds(path, Evidence(frozenset({other.public_key}))) == {"document"}


def test_a_document_without_a_row_of_the_journal_is_named(path: Path) -> None:
    columns = (
        "kind, month, tenant, 0, issued_at_us, reverses, '', document, sha256, public_key,"
        " signature"
    )
    tamper(path, f"INSERT INTO documents SELECT '2026-12-0003', {columns} FROM documents LIMIT 1")
    assert kinds(path) == {"document"}


def test_a_ledger_of_before_there_were_documents_is_right(
    tmp_path: Path, make_usage: MakeUsage
) -> None:
    path = tmp_path / "old.db"
    with closing(SqliteLedger(path)) as ledger:
        ledger.post([make_usage()])
    tamper(path, "; ".join(f"DROP TABLE {name}" for name in ("documents", "prints", "rate_cards")))
    assert kinds(path) == set()


def test_checkpoints_that_were_all_deleted_are_missed_where_a_notary_signs(
    path: Path, key: SigningKey, tmp_path: Path, make_usage: MakeUsage
) -> None:
    signing = Evidence(has_notary=True)
    assert kinds(path, Evidence()) == set()
    assert kinds(path, signing) == {"unsigned"}
    with closing(SqliteLedger(path)) as ledger:
        ledger.checkpoint(key, 1)
    assert kinds(path, signing) == set()
    fresh = tmp_path / "fresh.db"
    with closing(SqliteLedger(fresh)) as ledger:
        ledger.post([make_usage(), make_usage(invocation_id="i-2")])
    assert kinds(fresh, signing) == set()


def test_what_was_done_to_money_in_postgresql_is_named(
    postgres_ledger: PostgresLedger, database: str, key: SigningKey, make_usage: MakeUsage
) -> None:
    ledger = postgres_ledger
    fill(ledger, key, make_usage)
    assert ledger.verify().problems == ()
    with psycopg.connect(database, autocommit=True) as connection:
        for table in ("rate_cards", "closed_months", "documents"):
            connection.execute(f"ALTER TABLE dsfn.{table} DISABLE TRIGGER USER")
            connection.execute(f"UPDATE dsfn.{table} SET document = '{{}}'")
    assert {problem.kind for problem in ledger.verify().problems} == {"card", "month", "document"}
