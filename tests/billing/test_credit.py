from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsfn.billing.credit import MAX_REASON_LENGTH, amount_of, credit_note
from dsfn.billing.invoice import Invoice, canonical_bytes
from dsfn.billing.lines import Line
from dsfn.billing.parties import Party
from dsfn.functions.errors import Conflict, UsageError

AT_US = 1_796_000_000_000_000


def invoice(net_minor: int, tax_minor: int) -> Invoice:
    lines = (
        Line("usage", "acme", function="echo", device_class="cpu", card=1, amount_minor=net_minor),
        Line("tax", "acme", card=1, amount_minor=tax_minor, note="VAT 19 %"),
    )
    return Invoice(
        number="2026-11-0001",
        kind="invoice",
        status="closed",
        month="2026-11",
        tenant="acme",
        issued_on="2026-12-01",
        due_on="2026-12-31",
        issuer=Party("Models, Inc.", ("1 Main Street", "Springfield")),
        customer=Party("Acme"),
        currency="EUR",
        exponent=2,
        lines=lines,
    )


@pytest.mark.parametrize(
    ("text", "exponent", "amount_minor"),
    [("12.34", 2, 1234), ("12", 2, 1200), ("0.5", 2, 50), (" 7 ", 0, 7), ("1.005", 3, 1005)],
)
def test_an_amount_is_written_in_the_currencys_own_decimals(
    text: str, exponent: int, amount_minor: int
) -> None:
    assert amount_of(text, exponent) == amount_minor


@pytest.mark.parametrize(
    ("text", "exponent"),
    [
        ("", 2), ("0", 2), ("0.00", 2), ("-1", 2), ("1.234", 2), ("1.", 2), (".5", 2), ("1,5", 2),
        ("1e3", 2), ("1.0", 0), ("٣", 2), ("9" * 16, 0), ("nan", 2),
    ],
)  # fmt: skip
def test_what_is_no_amount_of_the_currency_is_refused(text: str, exponent: int) -> None:
    with pytest.raises(UsageError):
        amount_of(text, exponent)


@given(
    st.integers(1, 10**6),
    st.integers(0, 10**5),
    st.lists(st.integers(1, 10**6), min_size=1, max_size=8),
)
def test_credit_notes_take_back_tax_as_the_invoice_has_it_and_never_more_than_the_invoice(
    net_minor: int, tax_minor: int, amounts: list[int]
) -> None:
    whole = invoice(net_minor, tax_minor)
    notes: list[Invoice] = []
    left = whole.total_minor
    for amount in amounts:
        if amount > left:
            with pytest.raises(Conflict) as refusal:
                credit_note(whole, notes, amount, "too slow", "2026-12-C0001", AT_US)
            assert refusal.value.fields["left_minor"] == left
            continue
        notes.append(credit_note(whole, notes, amount, "too slow", "2026-12-C0001", AT_US))
        left -= amount
        assert notes[-1].total_minor == -amount
        share = Fraction(whole.tax_minor * (whole.total_minor - left), whole.total_minor)
        assert abs(sum(note.tax_minor for note in notes) + share) <= Fraction(1, 2)
    if left:
        notes.append(credit_note(whole, notes, left, "the rest", "2026-12-C0001", AT_US))
    assert sum(note.total_minor for note in notes) == -whole.total_minor
    assert sum(note.tax_minor for note in notes) == -whole.tax_minor


def test_a_credit_note_says_whose_it_is_why_and_what_is_taken_back() -> None:
    whole = invoice(100, 19)
    assert credit_note(whole, (), 50, "too slow", "2026-12-C0001", AT_US) == replace(
        whole,
        number="2026-12-C0001",
        kind="credit",
        issued_on="2026-11-30",
        due_on="",
        lines=(
            Line(
                "credit", "acme", card=1, amount_nano=-420_000_000, amount_minor=-42,
                note="too slow",
            ),
            Line(
                "tax", "acme", card=1, amount_nano=-80_000_000, amount_minor=-8, note="VAT 19 %"
            ),
        ),
        reverses="2026-11-0001",
        reason="too slow",
    )  # fmt: skip


def test_a_reason_has_a_limit_and_may_be_as_long() -> None:
    assert credit_note(invoice(100, 19), (), 1, "x" * MAX_REASON_LENGTH, "n", AT_US)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 401, "a\nb"])
def test_a_credit_note_has_a_reason(reason: str) -> None:
    with pytest.raises(UsageError):
        credit_note(invoice(100, 19), (), 1, reason, "2026-12-C0001", AT_US)


def test_a_credit_note_is_not_credited() -> None:
    note = credit_note(invoice(100, 19), (), 50, "too slow", "2026-12-C0001", AT_US)
    with pytest.raises(Conflict, match="only an invoice can be credited"):
        credit_note(note, (), 1, "no", "2026-12-C0002", AT_US)


def test_a_document_is_read_back_as_it_was() -> None:
    for each in (invoice(100, 19), credit_note(invoice(100, 19), (), 50, "é", "n", AT_US)):
        document = each.to_document()
        assert Invoice.from_document(document) == each
        assert canonical_bytes(document) == canonical_bytes(dict(reversed(list(document.items()))))
