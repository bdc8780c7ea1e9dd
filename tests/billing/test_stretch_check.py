"""The quick look at a stretch of rows: it finds no fault with what was posted, and adds it up."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw
import psycopg
import pytest

from dsfn.billing.chain_check import read_row
from dsfn.billing.charge import Charge
from dsfn.billing.entry import COLUMNS
from dsfn.billing.evidence import NO_EVIDENCE
from dsfn.billing.interval import Interval
from dsfn.billing.ledger import Ledger
from dsfn.billing.postgres_ledger import PostgresLedger
from dsfn.billing.postgres_verify import open_books
from dsfn.billing.posting import Posting
from dsfn.billing.reservation import Reservation
from dsfn.billing.rollups import Totals
from dsfn.billing.rounding import Counted
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.billing.verification import Verification
from dsfn.billing.verify import check_stretch, verify

T0 = 1_790_000_000_000_000
# All control characters, what JSON and SQL quote, and text of 2, 3 and 4 bytes.
ODD = "".join(map(chr, range(1, 0xA0))) + "'\"\\/\u2028\ufeff\U0001f600"
TEXTS = ("", "a", '"', "\\u0041", ODD, "ü" * 300)


def calls() -> list[Usage]:
    """Several of each of a few kinds, over a midnight, with texts that are hard to quote."""
    return [
        Usage(
            f"{n}-{text}", text or "t", text, text or "f", text, text or "cpu", T0 + n * 10**10,
            n, 10 + n, 0, "succeeded" if n % 3 else "platform", text, f"{n}" if n % 2 else "", text,
            text, 1 + n % 2, text, text, text, text,
        )
        for text in TEXTS
        for n in range(6)
    ]  # fmt: skip


def postings() -> list[Posting]:
    """Rows of every kind."""
    lease = ("l-1", "gpu:0", 1, "NVIDIA L4", "f", "f-1", "t", T0)
    return [
        *calls(),
        Usage("restored", "t", "", "f", "", "cpu", T0, 1, 2, 3, "succeeded"),
        Interval("restore", "l-1/0", *lease, 100),
        Interval("idle", "l-1/1", *lease, 23, "keep-warm"),
        Interval("held", "l-1/2", *lease, 123, closes=True),
        Reservation("reserve", "r-1", "t", "k", "USD", 7, T0),
        Reservation("reserve", "r-2", "t", "k", "USD", 8, T0),
        Reservation("post", "r-1", "t", "k", "USD", 7, T0 + 1),
        Charge("invoice", "2026-09-0001", "t", "USD", 10**18, 3, "2026-09", T0),
        Charge("credit", "2026-09-C0001", "t", "USD", 5, 0, "2026-09", T0, ODD, "2026-09-0001"),
    ]


@pytest.fixture
def filled(ledger: Ledger) -> SqliteLedger | PostgresLedger:
    assert isinstance(ledger, SqliteLedger | PostgresLedger)
    ledger.post(postings())
    # Its lease has as much time as before.
    ledger.correct("1-a", replace(calls()[7], invocation_id="corrected", busy_us=2))
    return ledger


def test_no_fault_is_found_with_any_row_that_was_posted(
    filled: SqliteLedger | PostgresLedger,
) -> None:
    books = filled.books()
    rows = list(map(read_row, books.rows(0, 1, 1000)))
    checked = check_stretch(books, (0, 1, len(rows)), Counted())
    assert (checked.rows, checked.bad_seq) == (len(rows), None)
    expected = Totals()
    expected.add(row.entry for row in rows)
    assert checked.totals == expected
    checked = check_stretch(books, (0, 5, len(rows)), Counted())
    assert (checked.rows, checked.bad_seq) == (len(rows) - 4, None)


def test_rows_that_are_not_there_are_missed(filled: SqliteLedger | PostgresLedger) -> None:
    books = filled.books()
    last = len(list(books.rows(0, 1, 1000)))
    assert check_stretch(books, (0, 1, last + 1), Counted()).bad_seq == last + 1
    assert check_stretch(books, (0, last + 2, last + 2), Counted()).bad_seq == last + 2


@pytest.mark.parametrize("column", COLUMNS[6:])
@pytest.mark.parametrize("added", ["char(0)", "char(0) || 'x'", "char(31)", "','"])
def test_what_is_put_behind_a_text_is_seen(
    sqlite_ledger: SqliteLedger, tmp_path: Path, column: str, added: str
) -> None:
    sqlite_ledger.post(postings())
    with closing(apsw.Connection(str(tmp_path / "ledger.db"))) as connection:
        connection.execute("DROP TRIGGER entries_are_never_updated")
        connection.execute(f"UPDATE entries SET {column} = {column} || {added} WHERE seq = 8")
    assert check_stretch(sqlite_ledger.books(), (0, 1, 20), Counted()).bad_seq == 8


def test_all_chains_are_checked_by_several_processes_as_by_one(database: str) -> None:
    with closing(PostgresLedger(database, writers=2)) as ledger:
        # The second chain is written while the first one's writer is busy.
        with ledger._writer():
            ledger.post(calls())
        ledger.post(
            [
                replace(call, invocation_id=f"x{call.invocation_id}", idempotency_key="")
                for call in calls()
            ]
        )
    with open_books(database, 2) as books:
        books = replace(books, stretch_rows=4)
        assert verify(books, NO_EVIDENCE) == Verification(
            ok=True, rows=2 * len(calls()), checkpoints=0
        )
        with psycopg.connect(database) as connection:
            connection.execute("ALTER TABLE dsfn.entries DISABLE TRIGGER ALL")
            connection.execute(
                "UPDATE dsfn.entries SET caller = 'x' WHERE (chain, seq) IN ((0, 30), (1, 2))"
            )
            connection.execute("ALTER TABLE dsfn.entries ENABLE TRIGGER ALL")
        found = {(problem.row, problem.kind) for problem in verify(books, NO_EVIDENCE).problems}
    assert found == {(30, "changed"), (2, "changed")}
