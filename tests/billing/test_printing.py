"""Which document is printed, and that it stays what it was."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from month_books import at_us, close_month, open_months
from pypdf import PdfReader

from dsfn.billing.exports import html, pdf
from dsfn.billing.months import Months
from dsfn.billing.parties import Parties, Party
from dsfn.billing.periods import DAY_US, Month
from dsfn.billing.ranges import Range
from dsfn.billing.rates import Rate, RateBook, RateCard
from dsfn.billing.usage import Usage
from dsfn.functions.errors import NotAcceptable, NotFound
from dsfn.runtime.printing import Format, Printer

CARD = RateCard(devices={"cpu": Rate(10**12)}, tax=1_900, tax_name="VAT")
PARTIES = Parties(
    Party("Models, Inc.", ("2 Side St.",)),
    {"acme": Party("Acme Corp.", ("1 Main St.",))},
    terms="Please pay to IBAN DE02.",
)
MONTH = Month.parse("2026-11")
NOVEMBER = Range(MONTH.start_us, MONTH.end_us)
NOON = at_us("2026-11-10T12:00:00")


@pytest.fixture
def months(tmp_path: Path) -> Iterator[Months]:
    with open_months(tmp_path, RateBook.of(CARD), PARTIES) as opened:
        yield opened


@pytest.fixture
def use(months: Months, make_usage: Callable[..., Usage]) -> Callable[..., None]:
    """Has a tenant use the CPU for two seconds."""

    def post(tenant: str, function: str = "embed") -> None:
        held_us = 2_000_000
        row = make_usage(
            invocation_id=f"{tenant}/{function}",
            tenant=tenant,
            function=function,
            started_at_us=NOON,
            busy_us=held_us,
            held_us=held_us,
        )
        months.ledger.post([row])

    return post


def page(months: Months, by: str = "function", tenant: str = "", now_us: int = NOON) -> str:
    return Printer(months).bill(NOVEMBER, by, tenant, now_us, "html").decode()


def test_an_open_month_of_one_tenant_is_an_estimate_of_its_invoice(
    months: Months, use: Callable[..., None]
) -> None:
    use("acme")
    text = page(months)
    for words in ("Invoice", "Estimate", "Acme Corp.", "1 Main St.", "EUR", "Usage by day"):
        assert words.replace("EUR", "USD 2.38") in text
    assert "SHA-256" not in text and "IBAN" not in text


def test_a_month_of_several_tenants_is_a_statement_and_of_one_of_them_an_invoice(
    months: Months, use: Callable[..., None]
) -> None:
    use("acme")
    use("bolt")
    whole = page(months)
    assert "Statement of usage" in whole and "USD 4.76" in whole
    assert "Acme Corp." in page(months, tenant="acme")
    assert "by" in page(months, by="revision") and "Statement of usage" in page(months, by="day")


def test_a_stretch_of_time_is_a_statement_at_list_price_with_charts(
    months: Months, use: Callable[..., None]
) -> None:
    use("acme")
    ten_days = Range(NOON - 5 * DAY_US, NOON + 5 * DAY_US)
    text = Printer(months).bill(ten_days, "function", "", NOON, "html").decode()
    assert "USD 2.00" in text and "at list price" in text
    assert text.count("<figure>") == 2


def test_a_closed_month_is_its_signed_invoice(months: Months, use: Callable[..., None]) -> None:
    use("acme")
    (issued,) = close_month(months, "2026-11")
    text = page(months, now_us=MONTH.end_us + 5 * DAY_US)
    for words in (issued.number, issued.sha256, issued.signature, issued.public_key, "IBAN"):
        assert words in text
    assert "Estimate" not in text
    assert text.encode() == Printer(months).document(issued.number, "html")


@pytest.mark.parametrize("format", ["html", "pdf"])
def test_a_document_is_printed_with_the_same_bytes_by_every_version(
    months: Months,
    use: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    format: Format,
) -> None:
    use("acme")
    (issued,) = close_month(months, "2026-11")
    first = Printer(months).document(issued.number, format)
    # A later version has another layout, another palette and other people in its configuration.
    monkeypatch.setattr(html, "TEXT_SIZE", 9_000)
    monkeypatch.setattr(pdf, "ACCENT", (1, 2, 3))
    again = Printer(months).document(issued.number, format)
    assert again == first
    note = months.credit(issued.number, 100, "a fault", "", MONTH.end_us + 9 * DAY_US)
    printed = Printer(months).document(note.number, format)
    assert printed != first
    assert Printer(months).document(issued.number, format) == first


def test_a_credit_note_is_printed(months: Months, use: Callable[..., None]) -> None:
    use("acme")
    (issued,) = close_month(months, "2026-11")
    note = months.credit(issued.number, 119, "A fault on the 12th.", "", MONTH.end_us + 9 * DAY_US)
    content = Printer(months).document(note.number, "pdf")
    text = PdfReader(io.BytesIO(content)).pages[0].extract_text()
    for words in ("Credit note", note.number, issued.number, "A fault on the 12th."):
        assert words in text
    assert "USD \N{MINUS SIGN}1.19" in text


def test_an_unknown_document_is_not_printed(months: Months) -> None:
    with pytest.raises(NotFound):
        Printer(months).document("2026-11-0001", "pdf")


def test_a_dataset_of_a_closed_month_names_the_invoices(
    months: Months, use: Callable[..., None]
) -> None:
    use("acme")
    use("bolt")
    printer = Printer(months)
    before = list(csv.DictReader(io.StringIO(printer.focus(NOVEMBER, "day", "", NOON))))
    assert {row["InvoiceId"] for row in before} == {""}
    issued = close_month(months, "2026-11")
    rows = list(csv.DictReader(io.StringIO(printer.focus(NOVEMBER, "day", "", NOON))))
    assert {row["BillingAccountId"]: row["InvoiceId"] for row in rows} == {
        each.tenant: each.number for each in issued
    }
    assert {row["BillingAccountName"] for row in rows} == {"Acme Corp.", "bolt"}
    assert {row["InvoiceIssuerName"] for row in rows} == {"Models, Inc."}
    assert rows[0]["ChargePeriodStart"] == "2026-11-10T00:00:00Z"


@pytest.mark.parametrize(("format", "missing"), [("html", "jinja2"), ("pdf", "fpdf")])
def test_without_the_extra_a_sentence_says_what_to_install(
    months: Months, monkeypatch: pytest.MonkeyPatch, format: Format, missing: str
) -> None:
    html._template.cache_clear()
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(NotAcceptable, match=r"pip install 'dsfn\[invoices\]'"):
        Printer(months).bill(NOVEMBER, "function", "", NOON, format)
