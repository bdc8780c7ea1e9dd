"""The check of a ledger names what was done to its cards, months and documents."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest
from month_books import at_us, close_month
from tampering import unguarded

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


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return SigningKey.open(tmp_path_factory.mktemp("key") / "key.pem")


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


@pytest.fixture(scope="module")
def untouched(
    tmp_path_factory: pytest.TempPathFactory, key: SigningKey, make_usage: MakeUsage
) -> Path:
    path = tmp_path_factory.mktemp("money") / "ledger.db"
    with closing(SqliteLedger(path)) as ledger:
        fill(ledger, key, make_usage)
    assert kinds(path, Evidence(frozenset({key.public_key}))) == set()
    return path


@pytest.fixture
def path(tmp_path: Path, untouched: Path) -> Path:
    """A ledger to do something to."""
    return Path(shutil.copy(untouched, tmp_path))


def tamper(path: Path, statements: str) -> None:
    """Does something that the triggers are there to refuse."""
    with unguarded(path) as connection:
        connection.execute(statements)


def details(path: Path, evidence: Evidence = NO_EVIDENCE) -> list[str]:
    return [problem.detail for problem in verify(SqliteBooks(path), evidence).problems]


@pytest.mark.parametrize(
    ("statements", "kind", "found"),
    [
        (
            "UPDATE rate_cards SET document = replace(document, '19', '18') WHERE number = 2",
            "card",
            ["The SHA-256 of rate card 2 is not its own."],
        ),
        (
            "UPDATE rate_cards SET effective_from_us = 7 WHERE number = 3",
            "card",
            ["Rate card 3 begins at another moment than it says."],
        ),
        *(
            (
                f"DELETE FROM rate_cards WHERE number IN {numbers}",
                "card",
                [
                    f"Rate card {number}, for which the journal has a row, is missing."
                    for number in numbers
                ],
            )
            for numbers in ((1, 2), (2, 3), (1, 2, 3))
        ),
        (
            "DELETE FROM rate_cards WHERE number = 3",
            "card",
            ["Rate card 3, for which the journal has a row, is missing."],
        ),
        (
            "UPDATE closed_months SET document = '{}' WHERE month = '2026-11'",
            "month",
            ["The SHA-256 of 2026-11 is not its own."],
        ),
        (
            "UPDATE closed_months SET end_us = end_us + 1 WHERE month = '2026-12'",
            "month",
            ["The statement of 2026-12 is not one of that month."],
        ),
        (
            "DELETE FROM closed_months WHERE month = '2026-12'",
            "month",
            [
                "The statement of 2026-12, for which the journal has a row, is missing.",
                "The statement of 2026-12 is missing, which has invoices.",
            ],
        ),
        (
            "UPDATE documents SET document = replace(document, '95', '94') WHERE tenant = 'acme'"
            " AND month = '2026-11'",
            "document",
            ["The SHA-256 of 2026-11-0001 is not its own."],
        ),
        (
            "UPDATE documents SET total_minor = 1 WHERE number = '2026-12-0001'",
            "document month",
            [
                "2026-12-0001 is not kept under its own number, tenant, month and total.",
                "The invoices of 2026-12 do not come to its statement.",
            ],
        ),
        (
            "UPDATE documents SET month = '2026-12' WHERE reverses <> ''",
            "document",
            ["2027-01-C0001 is not kept under its own number, tenant, month and total."],
        ),
        (
            "UPDATE documents SET signature = replace(signature, 'a', 'b') WHERE reverses <> ''",
            "document",
            ["The signature of 2027-01-C0001 is wrong."],
        ),
        (
            "DELETE FROM documents WHERE number = '2026-11-0001'",
            "document month print",
            [
                "2026-11-0001, for which the journal has a row of acme (invoice), is missing.",
                "The invoices of 2026-11 do not come to its statement.",
                "Of the numbers 2026-11-... up to 2, 1 are missing.",
                "The print of 2026-11-0001 as pdf is of no document.",
            ],
        ),
        (
            "DELETE FROM documents WHERE reverses <> ''",
            "document",
            ["2027-01-C0001, for which the journal has a row of acme (credit), is missing."],
        ),
        (
            "DELETE FROM documents; DELETE FROM prints",
            "document month",
            [
                f"{number}, for which the journal has a row of {tenant} ({kind}), is missing."
                for number, tenant, kind in (
                    ("2026-11-0001", "acme", "invoice"),
                    ("2026-11-0002", "bob", "invoice"),
                    ("2026-12-0001", "acme", "invoice"),
                    ("2026-12-0002", "bob", "invoice"),
                    ("2027-01-C0001", "acme", "credit"),
                )
            ]
            + [
                f"The invoices of {month} do not come to its statement."
                for month in ("2026-11", "2026-12")
            ],
        ),
        (
            "UPDATE prints SET number = '2026-11-0009'",
            "print",
            ["The print of 2026-11-0009 as pdf is of no document."],
        ),
    ],
)
def test_what_was_done_to_money_is_named(
    path: Path, statements: str, kind: str, found: list[str]
) -> None:
    tamper(path, statements)
    assert kinds(path) == set(kind.split())
    assert details(path) == found


@pytest.mark.parametrize(("number", "said"), [(3, '"pico_per_second":'), (1, '"tax":')])
def test_a_card_that_was_changed_and_hashed_anew_is_named(
    path: Path, number: int, said: str
) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        query = "SELECT document FROM rate_cards WHERE number = ?"
        document = str(connection.execute(query, (number,)).fetchall()[0][0])
    changed = document.replace(said, f"{said}1", 1)
    new = f"document = '{changed}', sha256 = '{digest_of(changed)}'"
    tamper(path, f"UPDATE rate_cards SET {new} WHERE number = {number}")
    other = f"Rate card {number} is another than the one that the journal has a row for."
    assert (kinds(path), details(path)) == ({"card"}, [other])


def test_a_card_that_was_put_in_is_named_and_stays_so_when_the_ledger_is_opened(
    path: Path,
) -> None:
    card = canonical_text(replace(CARD, effective_from_us=at_us("2027-07-01")))
    values = f"4, {at_us('2027-07-01')}, 0, 'set', '{card}', '{digest_of(card)}'"
    tamper(path, f"INSERT INTO rate_cards VALUES ({values})")
    for _ in range(2):
        assert details(path) == ["Rate card 4 was put in: the journal has no row for it."]
        SqliteLedger(path).close()


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


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"exponent": None}, "2026-12-0001 has no decimals that a currency has."),
        ({"exponent": 10}, "2026-12-0001 has no decimals that a currency has."),
        (
            {"exponent": 3},
            "The journal has another amount for 2026-12-0001 of acme than its total.",
        ),
        (
            {"total_minor": 7},
            "2026-12-0001 is not kept under its own number, tenant, month and total.",
        ),
    ],
)
def test_a_document_that_somebody_wrote_and_signed_anew_is_named(
    path: Path, key: SigningKey, change: dict[str, Any], found: str
) -> None:
    with unguarded(path) as connection:
        query = "SELECT document FROM documents WHERE number = '2026-12-0001'"
        ((document,),) = connection.execute(query).fetchall()
        text = json.dumps({**json.loads(str(document)), **change})
        connection.execute(
            "UPDATE documents SET document = ?, sha256 = ?, signature = ?"
            " WHERE number = '2026-12-0001'",
            (text, sha256(text.encode()).hexdigest(), key.sign(text.encode()).hex()),
        )
    assert details(path) == [found]
    assert kinds(path) == {"document"}


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


def test_a_month_that_was_closed_with_nothing_to_bill_is_right(
    tmp_path: Path, key: SigningKey, make_usage: MakeUsage
) -> None:
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        store = RateStore(ledger.cards(), CARD, 0)
        months = Months(ledger, lambda: store.book, Parties(), key, lambda: None)
        ledger.post([make_usage(started_at_us=at_us("2026-11-10"), status="platform")])
        close_month(months, "2026-11")
    assert kinds(tmp_path / "ledger.db") == set()


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
            connection.execute(f"ALTER TABLE dsfn.{table} ENABLE TRIGGER USER")
    assert {problem.kind for problem in ledger.verify().problems} == {"card", "month", "document"}


@pytest.mark.parametrize(
    ("rotated", "found"), [("2027-02-01", set()), ("2027-01-04", {"document"})]
)
def test_a_key_that_was_given_up_vouches_for_what_was_issued_before_and_nothing_else(
    path: Path, key: SigningKey, tmp_path: Path, rotated: str, found: set[str]
) -> None:
    next_key = SigningKey.open(tmp_path / "next.pem")
    with closing(SqliteLedger(path)) as ledger:
        ledger.rotate(key, next_key, at_us(rotated))
    # The credit note is of January 5.
    assert kinds(path, Evidence(frozenset({next_key.public_key}))) == found
