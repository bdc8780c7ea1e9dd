"""Credit notes: what is taken off an invoice after it was sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dsfn.billing.invoice import Invoice
from dsfn.billing.lines import Kind, Line
from dsfn.billing.money import ATTO_PER_NANO, atto_per_minor, half_even, minor_text
from dsfn.billing.periods import DAY_US, day_text
from dsfn.functions.errors import Conflict, UsageError

MAX_REASON_LENGTH = 400


def amount_of(text: str, exponent: int) -> int:
    """An amount such as "12.34" in minor units. Raises `UsageError` for none above 0 and for more
    decimals than the currency has."""
    whole, point, decimals = text.strip().partition(".")
    digits = whole + decimals
    fits = len(decimals) <= exponent and bool(decimals) == bool(point)
    if not fits or not whole or not (digits.isascii() and digits.isdigit()) or len(digits) > 15:
        example = minor_text(1234, exponent)
        raise UsageError(f"{text!r} is not an amount of the currency; write it like {example}.")
    amount_minor = int(whole + decimals.ljust(exponent, "0"))
    if amount_minor == 0:
        raise UsageError("The amount of a credit note must be above 0.")
    return amount_minor


def credit_note(
    invoice: Invoice,
    earlier: Iterable[Invoice],
    amount_minor: int,
    reason: str,
    number: str,
    issued_at_us: int,
) -> Invoice:
    """A credit note of `amount_minor`, tax included, on an invoice that has `earlier` ones.

    Its part of the tax is what the invoice's is, so that credit notes over all of an invoice take
    back all of its tax. Raises `Conflict` when together they would be more than the invoice, and
    for what is none, `UsageError` for a reason that is none.
    """
    if not reason.strip() or len(reason) > MAX_REASON_LENGTH or not reason.isprintable():
        raise UsageError(
            f"A credit note needs a reason, of at most {MAX_REASON_LENGTH} characters."
        )
    if invoice.kind != "invoice":
        raise Conflict(
            f"{invoice.number} is a credit note: only an invoice can be credited.",
            number=invoice.number,
        )
    notes = tuple(earlier)
    before_minor = -sum(note.total_minor for note in notes)
    left_minor = invoice.total_minor - before_minor
    if amount_minor > left_minor:
        left = minor_text(max(0, left_minor), invoice.exponent)
        raise Conflict(
            f"{invoice.number} can be credited with {left} {invoice.currency} at most.",
            number=invoice.number,
            left_minor=max(0, left_minor),
        )
    all_tax_minor = half_even(
        (before_minor + amount_minor) * invoice.tax_minor, invoice.total_minor
    )
    tax_minor = all_tax_minor + sum(note.tax_minor for note in notes)
    return Invoice(
        number=number,
        kind="credit",
        status="closed",
        month=invoice.month,
        tenant=invoice.tenant,
        issued_on=day_text(issued_at_us // DAY_US),
        due_on="",
        issuer=invoice.issuer,
        customer=invoice.customer,
        currency=invoice.currency,
        exponent=invoice.exponent,
        lines=tuple(_lines(invoice, amount_minor - tax_minor, tax_minor, reason)),
        reverses=invoice.number,
        reason=reason,
    )


def _lines(invoice: Invoice, net_minor: int, tax_minor: int, reason: str) -> Iterator[Line]:
    yield _line(invoice, "credit", net_minor, reason)
    taxes = dict.fromkeys(line.note for line in invoice.lines if line.kind == "tax")
    if taxes:
        yield _line(invoice, "tax", tax_minor, ", ".join(taxes))


def _line(invoice: Invoice, kind: Kind, amount_minor: int, note: str) -> Line:
    return Line(
        kind=kind,
        tenant=invoice.tenant,
        card=max(line.card for line in invoice.lines),
        amount_nano=-amount_minor * atto_per_minor(invoice.exponent) // ATTO_PER_NANO,
        amount_minor=-amount_minor,
        note=note,
    )
