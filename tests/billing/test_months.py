from __future__ import annotations

import json
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from month_books import at_us, close_month, open_months

from dsfn.billing.chain_check import read_row
from dsfn.billing.document_check import check_document
from dsfn.billing.invoice import DayAmount, canonical_bytes, digest_of, invoice_of
from dsfn.billing.issued import Issued
from dsfn.billing.lines import Line
from dsfn.billing.months import Months, invoice_in
from dsfn.billing.parties import Parties, Party
from dsfn.billing.periods import DAY_US, Month
from dsfn.billing.rates import BASES, Rate, RateBook, RateCard, Tier
from dsfn.billing.replacement import Correction
from dsfn.billing.selection import BYS
from dsfn.billing.statement import statement
from dsfn.billing.usage import STATUSES, Usage
from dsfn.functions.errors import Conflict, IdempotencyMismatch, NotFound, UsageError

MakeUsage = Callable[..., Usage]
SECOND_US = 1_000_000
# One dollar a second.
DOLLAR = Rate(10**12)
CARD = RateCard(devices={"cpu": DOLLAR}, tax=1_900, tax_name="VAT")
NOVEMBER, DECEMBER = Month.parse("2026-11"), Month.parse("2026-12")
NOON = at_us("2026-11-10T12:00:00")


@pytest.fixture
def months(tmp_path: Path) -> Iterator[Months]:
    parties = Parties(Party("Models, Inc."), {"acme": Party("Acme Corp.", ("1 Main St.",))})
    with open_months(tmp_path, RateBook.of(CARD), parties) as opened:
        yield opened


@pytest.fixture
def used(make_usage: MakeUsage) -> Callable[..., Usage]:
    """A call of `seconds` on the CPU in November."""

    def call(name: str, seconds: int = 1, **changes: Any) -> Usage:
        held_us = seconds * SECOND_US
        fields = {"started_at_us": NOON, "busy_us": held_us, "held_us": held_us, **changes}
        return make_usage(invocation_id=name, **fields)

    return call


def signed_anew(months: Months, issued: Issued, **change: Any) -> Issued:
    """A document that says something else, signed by whoever has the key."""
    content = canonical_bytes({**json.loads(issued.document), **change})
    return replace(
        issued,
        document=content.decode(),
        sha256=digest_of(content),
        signature=months.key.sign(content).hex(),
    )


def test_closing_gives_every_tenant_one_invoice_numbered_without_a_gap(
    months: Months, used: MakeUsage
) -> None:
    months.ledger.post(
        [used("z", 3, tenant="zoe"), used("a", 5, tenant="acme"), used("b", 2, tenant="bob")]
    )
    issued = close_month(months, "2026-11")
    assert [(each.number, each.tenant, each.total_minor) for each in issued] == [
        ("2026-11-0001", "acme", 595),
        ("2026-11-0002", "bob", 238),
        ("2026-11-0003", "zoe", 357),
    ]
    first = invoice_in(issued[0])
    assert (first.issuer.name, first.customer.name) == ("Models, Inc.", "Acme Corp.")
    assert (first.issued_on, first.due_on, first.status) == ("2026-12-02", "2027-01-01", "closed")
    assert (first.total_minor, first.tax_minor) == (595, 95)
    assert invoice_in(issued[1]).customer.name == "bob"
    assert [months.verify(each.number).problems for each in issued] == [(), (), ()]


def test_an_invoice_is_what_the_month_came_to_and_is_booked_with_its_rounding(
    months: Months, used: MakeUsage
) -> None:
    months.ledger.post([used("a", 5, restore_us=7, held_us=5_004_321)])
    (issued,) = close_month(months, "2026-11")
    ledger = months.ledger
    assert ledger.balance("receivable/default", "nano:USD") == issued.total_minor * 10**7
    exact_nano = sum(line.amount_nano for line in invoice_in(issued).lines)
    assert ledger.balance("revenue", "nano:USD") == -exact_nano
    assert ledger.balance("rounding", "nano:USD") == exact_nano - issued.total_minor * 10**7
    assert months.verify(issued.number).problems == ()


def test_a_month_is_closed_once_it_is_over_and_after_those_before_it(
    months: Months, used: MakeUsage
) -> None:
    months.ledger.post([used("a"), used("b", started_at_us=DECEMBER.start_us)])
    with pytest.raises(Conflict, match="is not over"):
        close_month(months, "2026-11", NOVEMBER.end_us - 1)
    with pytest.raises(Conflict, match="2026-11 must be closed before 2026-12"):
        close_month(months, "2026-12")
    with pytest.raises(UsageError):
        close_month(months, "2026-13", 0)
    with pytest.raises(NotFound):
        months.closed("2026-11")
    assert len(close_month(months, "2026-11", NOVEMBER.end_us)) == 1
    with pytest.raises(Conflict, match="2026-12 must be closed before 2027-01"):
        close_month(months, "2027-01")
    assert len(close_month(months, "2026-12")) == 1


def test_a_month_without_usage_is_closed_without_an_invoice(
    months: Months, used: MakeUsage
) -> None:
    months.ledger.post([used("a")])
    close_month(months, "2026-11")
    assert close_month(months, "2027-02") == []
    with pytest.raises(NotFound, match="closed with a later month"):
        months.closed("2027-01")
    assert months.ledger.closed_until_us == Month.parse("2027-02").end_us


def test_closing_again_changes_nothing_and_gives_the_same_bytes(
    tmp_path: Path, used: MakeUsage
) -> None:
    with open_months(tmp_path, RateBook.of(CARD)) as months:
        months.ledger.post([used("a", 5)])
        first = close_month(months, "2026-11")
        report = months.report("2026-11", "function", "", NOON)
    dearer = RateCard(effective_from_us=DECEMBER.start_us, devices={"cpu": Rate(2 * 10**12)})
    (tmp_path / "key.pem").unlink()
    with open_months(tmp_path, RateBook.of(CARD, dearer), Parties(Party("New name"))) as months:
        months.ledger.post([used("late", 7)])
        assert close_month(months, "2026-11", at_us("2030-01-01")) == first
        assert months.issued("2026-11-0001") == first[0]
        assert months.report("2026-11", "function", "", NOON) == report
        assert months.verify("2026-11-0001").problems == ()
        for by in BYS:
            divided = months.report("2026-11", by, "", NOON)
            assert (divided.total_minor, divided.devices) == (report.total_minor, report.devices)
            assert divided.status == "closed"
        assert statement(months.ledger, months.book(), "2026-11").devices == report.devices


def test_the_bill_of_a_closed_month_is_the_one_that_was_made_then_also_of_one_tenant(
    tmp_path: Path, used: MakeUsage
) -> None:
    with open_months(tmp_path, RateBook.of(CARD)) as months:
        months.ledger.post([used("a", 5, tenant="acme"), used("z", 3, tenant="zoe")])
        close_month(months, "2026-11")
        whole = months.report("2026-11", "function", "", NOON)
        divided = months.report("2026-11", "key", "acme", NOON)
    assert (whole.total_minor, whole.status, whole.expected_minor) == (952, "closed", None)
    assert (divided.total_minor, divided.devices) == (595, whole.devices)
    assert {line.tenant for line in divided.lines} == {"acme"}
    # Whatever the cards say now.
    dearer = replace(CARD, devices={"cpu": Rate(10**13)})
    with open_months(tmp_path, RateBook.of(dearer)) as months:
        assert months.report("2026-11", "function", "", NOON) == whole
        acme = months.report("2026-11", "function", "acme", NOON)
    assert (acme.total_minor, acme.tenant, acme.devices) == (595, "acme", whole.devices)
    assert acme.lines == tuple(line for line in whole.lines if line.tenant == "acme")


def test_what_comes_late_is_a_correction_of_the_next_month_at_the_rates_of_its_own_time(
    tmp_path: Path, used: MakeUsage
) -> None:
    dearer = replace(CARD, effective_from_us=DECEMBER.start_us, devices={"cpu": Rate(10**13)})
    with open_months(tmp_path, RateBook.of(CARD, dearer)) as months:
        months.ledger.post([used("a", 5)])
        before = close_month(months, "2026-11")
        months.ledger.post([used("late", 2), used("own", 3, started_at_us=DECEMBER.start_us)])
        assert months.report("2026-11", "day", "", NOON).total_minor == 595
        (issued,) = close_month(months, "2026-12")
        lines = invoice_in(issued).lines
        assert [
            (x.kind, x.service_month, x.card, x.quantity_us, x.amount_minor) for x in lines
        ] == [
            ("usage", None, 2, 3 * SECOND_US, 3_000),
            ("correction", "2026-11", 1, 2 * SECOND_US, 200),
            ("tax", "2026-11", 1, 0, 38),
            ("tax", None, 2, 0, 570),
        ]
        days = {(each.day, each.amount_minor) for each in invoice_in(issued).days}
        assert days == {("2026-11-10", 200), ("2026-12-01", 3_000)}
        assert months.closed("2026-11")[1] == before
        assert [months.verify(each.number).problems for each in (*before, issued)] == [(), ()]
        (cpu,) = months.report("2026-12", "function", "", NOON).devices
        assert (cpu.held_us, cpu.requests_us) == (5 * SECOND_US, 5 * SECOND_US)
        # The next month has this one.
        months.ledger.post([used("later", 4)])
        assert statement(months.ledger, months.book(), "2026-12").devices == (cpu,)


def test_what_comes_while_a_month_is_being_closed_belongs_to_the_next(
    months: Months, used: MakeUsage
) -> None:
    months.ledger.post([used("a", 5)])
    now_us = NOVEMBER.end_us
    assert months.start_closing("2026-11", now_us)
    issue = months.prepare("2026-11", now_us)
    months.ledger.post([used("meanwhile", 2)])
    months.ledger.issue(issue)
    assert months.closed("2026-11")[1][0].total_minor == 595
    assert months.verify("2026-11-0001").problems == ()
    (correction, _tax) = invoice_in(close_month(months, "2026-12")[0]).lines
    assert (correction.kind, correction.amount_minor) == ("correction", 200)


def test_a_call_over_the_end_of_a_month_is_billed_in_both_and_late_in_one(
    months: Months, used: MakeUsage
) -> None:
    start_us = NOVEMBER.end_us - 4 * SECOND_US
    months.ledger.post([used("over", 10, started_at_us=start_us)])
    (issued,) = close_month(months, "2026-11")
    assert [line.quantity_us for line in invoice_in(issued).lines] == [4 * SECOND_US, 0]
    months.ledger.post([used("late", 10, started_at_us=start_us)])
    lines = invoice_in(close_month(months, "2026-12")[0]).lines
    assert [(x.kind, x.requests, x.quantity_us) for x in lines] == [
        ("usage", 0, 12 * SECOND_US),
        ("correction", 1, 4 * SECOND_US),
        ("tax", 0, 0),
        ("tax", 0, 0),
    ]


def test_allowances_and_tiers_of_a_closed_month_go_on_for_what_comes_late(
    tmp_path: Path, used: MakeUsage
) -> None:
    rate = replace(DOLLAR, free_us=100 * SECOND_US, free_requests=1)
    with open_months(tmp_path, RateBook.of(RateCard(devices={"cpu": rate}))) as months:
        months.ledger.post([used("a", 60)])
        assert close_month(months, "2026-11")[0].total_minor == 0
        months.ledger.post([used("late", 60), used("own", 60, started_at_us=DECEMBER.start_us)])
        lines = invoice_in(close_month(months, "2026-12")[0]).lines
        assert [(x.kind, x.service_month, x.amount_minor) for x in lines] == [
            ("usage", None, 6_000),
            ("correction", "2026-11", 6_000),
            ("allowance", "2026-11", -4_000),
            ("allowance", None, -6_000),
        ]


def test_what_comes_late_is_priced_by_the_volume_that_its_month_has_with_it(
    tmp_path: Path, used: MakeUsage
) -> None:
    half_price = (Tier(100 * SECOND_US, 10**12 // 2),)
    rate = replace(DOLLAR, tiers=half_price, tiering="volume")
    with open_months(tmp_path, RateBook.of(RateCard(devices={"cpu": rate}))) as months:
        months.ledger.post([used("a", 60)])
        assert close_month(months, "2026-11")[0].total_minor == 6_000
        months.ledger.post([used("late", 60)])
        lines = invoice_in(close_month(months, "2026-12")[0]).lines
        assert [(x.kind, x.amount_minor) for x in lines] == [
            ("correction", 6_000),
            ("tier", -3_000),
        ]


def test_a_call_that_is_corrected_after_its_month_gives_its_price_back(
    months: Months, used: MakeUsage
) -> None:
    first = used("a", 5)
    months.ledger.post([first, used("b", 1)])
    (issued,) = close_month(months, "2026-11")
    fault = replace(first, invocation_id="a/2", status="platform", error="a disk failed")
    months.ledger.correct("a", fault)
    (credit,) = close_month(months, "2026-12")
    assert (credit.kind, credit.total_minor) == ("credit", -595)
    line = invoice_in(credit).lines[0]
    assert (line.kind, line.requests, line.quantity_us) == ("correction", -1, -5 * SECOND_US)
    assert months.ledger.balance("receivable/default", "nano:USD") == (714 - 595) * 10**7
    assert months.verify(issued.number).problems == months.verify(credit.number).problems == ()


@pytest.mark.parametrize(
    ("currency", "exponent", "total_minor"), [("JPY", 0, 1), ("KWD", 3, 1_235), ("USD", 2, 124)]
)
def test_invoices_are_rounded_half_even_to_the_currencys_own_decimals(
    tmp_path: Path, used: MakeUsage, currency: str, exponent: int, total_minor: int
) -> None:
    card = RateCard(currency=currency, exponent=exponent, devices={"cpu": DOLLAR})
    with open_months(tmp_path, RateBook.of(card)) as months:
        months.ledger.post([used("a", held_us=1_235_000)])
        (issued,) = close_month(months, "2026-11")
        assert issued.total_minor == total_minor
        amount_nano = total_minor * 10 ** (9 - exponent)
        assert months.ledger.balance("receivable/default", f"nano:{currency}") == amount_nano


def test_drafts_are_the_invoices_that_closing_would_give(months: Months, used: MakeUsage) -> None:
    months.ledger.post([used("a", 5), used("b", 2, tenant="bob")])
    drafts = months.drafts("2026-11", "", NOVEMBER.end_us + DAY_US)
    issued = [invoice_in(each) for each in close_month(months, "2026-11")]
    assert [(each.number, each.status) for each in drafts] == [("", "open")] * 2
    as_drafts = [replace(each, number="", status="open") for each in issued]
    assert drafts == as_drafts
    assert months.drafts("2026-11", "bob", 0) == [issued[0]]


def test_an_open_month_tells_what_it_comes_to_if_it_goes_on_like_this(
    months: Months, used: MakeUsage
) -> None:
    months.ledger.post([used("a", 5)])
    third_us = NOVEMBER.start_us + 10 * DAY_US
    assert months.report("2026-11", "function", "", third_us).expected_minor == 3 * 595
    for moment in (NOVEMBER.start_us, NOVEMBER.end_us):
        assert months.report("2026-11", "function", "", moment).expected_minor is None


# Credit notes.


def test_credit_notes_are_numbered_signed_and_never_more_than_their_invoice(
    months: Months, used: MakeUsage
) -> None:
    months.ledger.post([used("a", 5)])
    close_month(months, "2026-11")
    now_us = at_us("2026-12-15")
    first = months.credit("2026-11-0001", 500, "too slow", "", now_us)
    second = months.credit("2026-11-0001", 95, "the rest", "", now_us)
    assert (first.number, second.number) == ("2026-12-C0001", "2026-12-C0002")
    with pytest.raises(Conflict) as refusal:
        months.credit("2026-11-0001", 1, "more", "", now_us)
    assert refusal.value.fields["left_minor"] == 0
    assert months.ledger.balance("receivable/default", "nano:USD") == 0
    assert [months.verify(each.number).problems for each in (first, second)] == [(), ()]
    entries = [read_row(row).entry for row in months.ledger.books().rows(0, 1, 99)]
    assert [x.reverses for x in entries if x.kind == "credit"] == ["2026-11-0001"] * 2
    with pytest.raises(NotFound):
        months.credit("2026-11-0002", 1, "none", "", now_us)


def test_a_credit_note_about_an_invoice_that_is_not_there_is_named(
    months: Months, used: MakeUsage
) -> None:
    months.ledger.post([used("a", 5)])
    close_month(months, "2026-11")
    note = months.credit("2026-11-0001", 500, "too slow", "", at_us("2026-12-15"))
    other = signed_anew(months, note, reverses="2026-11-0009")
    found = check_document(months.ledger, months.book(), replace(other, reverses="2026-11-0009"))
    assert (found.number, found.public_key) == (note.number, months.key.public_key)
    assert found.problems == ("2026-12-C0001 is about 2026-11-0009, which is no invoice.",)


def test_a_call_is_corrected_once_and_its_row_is_the_one_that_was_asked_for(
    months: Months, used: MakeUsage
) -> None:
    months.ledger.post([used("a", 5, restore_us=7)])
    nobodys = Correction("the device was too hot", status="platform")
    right = months.correct("a", nobodys)
    assert (right.status, right.error) == ("platform", "the device was too hot")
    assert months.correct("a", nobodys) == right
    assert months.ledger.usage(right.invocation_id) == right
    entries = [read_row(row).entry for row in months.ledger.books().rows(0, 1, 99)]
    waivers = [(x.id, x.reverses, x.amount) for x in entries if x.kind == "waiver"]
    assert waivers == [(right.invocation_id, "a", 7)]
    assert close_month(months, "2026-11") == []
    with pytest.raises(NotFound, match="There is no call b"):
        months.correct("b", nobodys)


def test_a_second_correction_of_a_call_is_told_which_row_to_correct(
    months: Months, used: MakeUsage
) -> None:
    months.ledger.post([used("a", 5)])
    slower = Correction("it was slower", busy_us=1)
    for call, last in (("a", "a.2"), ("a.2", "a.3")):
        months.correct(call, slower)
        for corrected in {"a", call}:
            with pytest.raises(Conflict) as caught:
                months.correct(corrected, Correction("it was faster", busy_us=2))
            assert caught.value.message == (
                f"Call {corrected} has been corrected already: {last} stands in its place, and is"
                " the row to correct now."
            )
    assert months.correct("a", slower).invocation_id == "a.2"


def test_a_call_that_is_corrected_is_one_request(months: Months, used: MakeUsage) -> None:
    months.ledger.post([used("a", 5)])
    months.correct("a", Correction("it was slower", busy_us=1))
    for by in ("function", "run"):
        (usage, _) = months.report("2026-11", by, "", NOON).lines
        assert (usage.requests, usage.busy_us, usage.held_us) == (1, 1, 5 * SECOND_US)


def test_what_comes_late_for_two_months_is_billed_for_both(months: Months, used: MakeUsage) -> None:
    for month in ("2026-11", "2026-12"):
        close_month(months, month)
    months.ledger.post([used("a", 2), used("b", 3, started_at_us=DECEMBER.start_us)])
    (issued,) = close_month(months, "2027-01")
    found = [(x.service_month, x.amount_minor) for x in invoice_in(issued).lines if x.requests]
    assert found == [("2026-11", 200), ("2026-12", 300)]


@pytest.mark.parametrize(
    ("amount_minor", "kind", "due_on"),
    [(5, "invoice", "2026-12-31"), (0, "invoice", "2026-12-31"), (-5, "credit", "")],
)
def test_who_is_owed_something_gets_a_credit_note_without_a_date_that_it_is_due_on(
    amount_minor: int, kind: str, due_on: str
) -> None:
    line = Line("usage", "t", "f", day="2026-11-03", quantity_us=1, amount_nano=2, amount_minor=3)
    rest = replace(line, quantity_us=10, amount_nano=20, amount_minor=amount_minor - 3)
    parties = Parties(Party("Models, Inc."), terms="Please pay.")
    lines, at = (line, rest), at_us("2026-12-01")
    found = invoice_of("2026-11", "t", lines, lines, parties, "USD", 2, at)
    assert (found.kind, found.due_on, found.terms) == (kind, due_on, "Please pay.")
    assert (found.number, found.status) == ("", "open")
    assert found.days == (DayAmount("2026-11-03", "f", 11, 22, amount_minor),)


def test_a_credit_note_that_is_asked_for_twice_is_issued_once(
    months: Months, used: MakeUsage
) -> None:
    months.ledger.post([used("a", 5)])
    close_month(months, "2026-11")
    first = months.credit("2026-11-0001", 100, "too slow", "key-1", DECEMBER.start_us)
    assert months.credit("2026-11-0001", 100, "too slow", "key-1", DECEMBER.end_us) == first
    with pytest.raises(IdempotencyMismatch):
        months.credit("2026-11-0001", 101, "too slow", "key-1", DECEMBER.start_us)
    assert len(months.ledger.documents.credit_notes("2026-11-0001")) == 1


# What is kept is never changed.

TABLES = {"documents": "tenant", "closed_months": "document", "prints": "format"}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", ["UPDATE {} SET {} = 'x'", "DELETE FROM {}", "REPLACE"])
def test_the_database_refuses_to_change_what_was_issued(
    tmp_path: Path, used: MakeUsage, table: str, change: str
) -> None:
    with open_months(tmp_path, RateBook.of(CARD)) as months:
        months.ledger.post([used("a", 5)])
        (issued,) = close_month(months, "2026-11")
        kept = months.ledger.documents.keep_print(issued.number, "pdf", b"%PDF-1")
        assert kept == b"%PDF-1"
    statement_ = change.format(table, TABLES[table])
    if change == "REPLACE":
        statement_ = f"REPLACE INTO {table} SELECT * FROM {table}"
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
        with pytest.raises(sqlite3.DatabaseError, match="never"):
            other.execute(statement_)
    with open_months(tmp_path, RateBook.of(CARD)) as months:
        assert months.issued(issued.number) == issued


def test_the_first_print_of_a_document_is_the_one_that_is_kept(months: Months) -> None:
    documents = months.ledger.documents
    assert documents.printed("2026-11-0001", "pdf") is None
    assert documents.keep_print("2026-11-0001", "pdf", b"first") == b"first"
    assert documents.keep_print("2026-11-0001", "pdf", b"second") == b"first"
    assert documents.printed("2026-11-0001", "pdf") == b"first"
    assert documents.printed("2026-11-0001", "html") is None


@contextmanager
def tampered(path: Path, statement_: str) -> Iterator[None]:
    with closing(sqlite3.connect(path)) as other:
        for (name,) in other.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
            other.execute(f"DROP TRIGGER {name}")
        other.execute(statement_)
        other.commit()
    yield


@pytest.mark.parametrize(
    ("statement_", "problem"),
    [
        ("UPDATE documents SET document = replace(document, '595', '594')", "SHA-256"),
        ("UPDATE documents SET signature = replace(signature, '0', '1')", "signature"),
        ("UPDATE documents SET total_minor = 594", "number, tenant and total"),
        ("UPDATE entries SET amount = 1 WHERE kind = 'invoice' AND source = 'document'", "journal"),
        ("UPDATE rollups SET held_us = 6000000 WHERE kind = 'usage'", "come to, which is 7.14"),
    ],
)
def test_a_document_that_was_tampered_with_is_named(
    tmp_path: Path, used: MakeUsage, statement_: str, problem: str
) -> None:
    with open_months(tmp_path, RateBook.of(CARD)) as months:
        months.ledger.post([used("a", 5)])
        close_month(months, "2026-11")
    with (
        tampered(tmp_path / "ledger.db", statement_),
        open_months(tmp_path, RateBook.of(CARD)) as months,
    ):
        check = months.verify("2026-11-0001")
    assert problem in " ".join(check.problems)
    assert check.to_document() == {
        "number": "2026-11-0001",
        "ok": False,
        "sha256": check.sha256,
        "public_key": check.public_key,
        "problems": list(check.problems),
    }


@pytest.mark.parametrize(
    "change",
    [
        {"lines": None},
        {"lines": [{"kind": "usage"}]},
        {"exponent": None},
        {"exponent": 10},
        {"month": "x"},
    ],
)
def test_a_document_that_is_signed_and_says_too_little_is_named(
    tmp_path: Path, used: MakeUsage, change: dict[str, Any]
) -> None:
    with open_months(tmp_path, RateBook.of(CARD)) as months:
        months.ledger.post([used("a", 5)])
        (issued,) = close_month(months, "2026-11")
        other = signed_anew(months, issued, **change)
        found = check_document(months.ledger, months.book(), other)
    assert found.problems == ("2026-11-0001 is signed, but is no document that was issued.",)


# Whatever the order: every row is billed once, and what is closed never changes.

rates = st.builds(Rate, st.integers(0, 10**10), st.sampled_from(BASES), st.integers(0, 10**10))
cards = st.builds(
    RateCard, exponent=st.sampled_from([0, 2, 3]), devices=st.fixed_dictionaries({"cpu": rates})
)
calls = st.builds(
    Usage,
    invocation_id=st.uuids().map(str),
    tenant=st.sampled_from(["a", "b"]),
    caller=st.just(""),
    function=st.sampled_from(["echo", "embed"]),
    revision=st.sampled_from(["r1", "r2"]),
    device_class=st.just("cpu"),
    started_at_us=st.integers(NOVEMBER.start_us, Month.parse("2027-01").end_us - 1),
    busy_us=st.integers(0, 10**10),
    held_us=st.integers(0, 10**12),
    restore_us=st.integers(0, 10**9),
    status=st.sampled_from(STATUSES),
    devices=st.integers(1, 4),
)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(calls, min_size=1, max_size=12, unique_by=lambda call: call.invocation_id),
    cards,
    st.randoms(use_true_random=False),
)
def test_months_that_close_at_any_time_bill_every_row_once_and_never_change(
    rows: list[Usage], card: RateCard, chance: random.Random
) -> None:
    names = ["2026-11", "2026-12", "2027-01", "2027-02"]
    cuts = sorted(chance.choices(range(len(rows) + 1), k=3))
    posts = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    with (
        tempfile.TemporaryDirectory() as directory,
        open_months(Path(directory), RateBook.of(card)) as months,
    ):
        kept: dict[str, list[Issued]] = {}
        for name, post in zip(names, posts, strict=True):
            months.ledger.post(post)
            kept[name] = close_month(months, name)
        close_month(months, "2027-03")
        lines: list[Line] = []
        for name in names:
            assert months.closed(name)[1] == kept[name]
            for each in kept[name]:
                assert months.verify(each.number).problems == ()
                invoice = invoice_in(each)
                assert each.total_minor == sum(line.amount_minor for line in invoice.lines)
                _agrees_with_decimal(invoice.lines, card)
                lines += invoice.lines
            for by in BYS:
                found = statement(months.ledger, months.book(), name, by)
                assert found.total_minor == sum(each.total_minor for each in kept[name])
    billed = [row for row in rows if row.status in card.billed]
    assert sum(line.requests for line in lines) == len(billed)
    assert sum(line.held_us for line in lines) == sum(r.held_us * r.devices for r in billed)
    rate = card.rate("cpu")
    times = [
        (r.busy_us * r.devices, r.held_us * r.devices, r.restore_us * r.devices) for r in billed
    ]
    assert sum(line.quantity_us for line in lines) == sum(rate.time_us(*each) for each in times)


def _agrees_with_decimal(lines: Any, card: RateCard) -> None:
    for line in lines:
        rate = card.rate(line.device_class)
        time = Decimal(line.quantity_us) * rate.pico_per_second / 10**6
        amount = (time + Decimal(line.requests) * rate.pico_per_request) / 10**12
        minor = amount.scaleb(card.exponent).quantize(Decimal(1), ROUND_HALF_EVEN)
        assert line.amount_minor == int(minor)


def test_an_issued_document_is_canonical_json_with_the_keys_that_are_documented(
    months: Months, used: MakeUsage
) -> None:
    months.ledger.post([used("a", 5)])
    (issued,) = close_month(months, "2026-11")
    document = json.loads(issued.document)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text == issued.document
    usage, tax = document.pop("lines")
    nobody = {"name": "", "address": [], "tax_id": "", "email": ""}
    assert document == {
        "version": 1,
        "number": "2026-11-0001",
        "kind": "invoice",
        "status": "closed",
        "month": "2026-11",
        "period": {"start": "2026-11-01", "end": "2026-12-01"},
        "tenant": "default",
        "issued_on": "2026-12-02",
        "due_on": "2027-01-01",
        "issuer": {**nobody, "name": "Models, Inc."},
        "customer": {**nobody, "name": "default"},
        "currency": "USD",
        "exponent": 2,
        "net_minor": 500,
        "tax_minor": 95,
        "total_minor": 595,
        "days": [
            {
                "day": "2026-11-10",
                "function": "echo",
                "quantity_us": 5 * SECOND_US,
                "amount_nano": 5 * 10**9,
                "amount_minor": 500,
            }
        ],
        "terms": "",
        "reverses": "",
        "reason": "",
    }
    assert (usage["kind"], usage["requests"], usage["amount_minor"]) == ("usage", 1, 500)
    assert (tax["kind"], tax["note"], tax["amount_minor"]) == ("tax", "VAT 19 %", 95)


def test_a_row_of_the_last_month_that_has_a_date_holds_up_no_other(
    months: Months, used: MakeUsage
) -> None:
    last_us = at_us("9999-12-31T00:00:00")
    months.ledger.post([used("a", 5), used("z", 5, started_at_us=last_us)])
    assert [each.total_minor for each in close_month(months, "2026-11")] == [595]
    with pytest.raises(UsageError, match="is too late"):
        months.report("9999-12", "function", "", last_us)
