"""Whether a document is what was issued, and follows from the journal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dsfn.billing.invoice import Invoice, digest_of
from dsfn.billing.issued import Issued
from dsfn.billing.ledger import Ledger
from dsfn.billing.money import NANO_EXPONENT, minor_text
from dsfn.billing.periods import Month
from dsfn.billing.rates import RateBook
from dsfn.billing.signatures import is_signed
from dsfn.billing.statement import month_usage
from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class DocumentCheck:
    """What is wrong with a document, in sentences."""

    number: str
    sha256: str
    public_key: str
    problems: tuple[str, ...]

    def to_document(self) -> dict[str, Any]:
        """This result as a JSON-able document."""
        return {
            "number": self.number,
            "ok": not self.problems,
            "sha256": self.sha256,
            "public_key": self.public_key,
            "problems": list(self.problems),
        }


def check_document(ledger: Ledger, book: RateBook, issued: Issued) -> DocumentCheck:
    """Looks at a document's digest and signature, at the journal's row for it, and calculates it
    anew from what was used."""
    problems = [*_seal_problems(issued)]
    invoice = None if problems else _invoice_in(issued)
    if invoice is not None:
        problems += _booking_problems(ledger, issued, invoice)
        problems += _content_problems(ledger, book, invoice)
    elif not problems:
        problems = [f"{issued.number} is signed, but is no document that was issued."]
    return DocumentCheck(issued.number, issued.sha256, issued.public_key, tuple(problems))


def _seal_problems(issued: Issued) -> Iterator[str]:
    content = issued.document.encode()
    if digest_of(content) != issued.sha256:
        yield f"The SHA-256 of {issued.number} is not the one that it was issued with."
    if not is_signed(content, issued.signature, issued.public_key):
        yield f"The signature of {issued.number} is not one of its key."


def _invoice_in(issued: Issued) -> Invoice | None:
    """What a document says; None where it says too little to be one, whoever signed it."""
    try:
        invoice = Invoice.from_document(json.loads(issued.document))
        Month.parse(invoice.month)
        is_whole = isinstance(invoice.total_minor, int)
        return invoice if is_whole and invoice.exponent in range(NANO_EXPONENT + 1) else None
    except (KeyError, TypeError, ValueError, UsageError):
        return None


def _booking_problems(ledger: Ledger, issued: Issued, invoice: Invoice) -> Iterator[str]:
    said = (invoice.number, invoice.tenant, invoice.total_minor, invoice.reverses)
    if said != (issued.number, issued.tenant, issued.total_minor, issued.reverses):
        yield f"{issued.number} is not kept under its own number, tenant and total."
    booked_nano = ledger.documents.charged_nano(invoice.number, invoice.tenant)
    due_nano = abs(invoice.total_minor) * 10 ** (NANO_EXPONENT - invoice.exponent)
    if booked_nano != due_nano:
        yield f"The journal has another amount for {issued.number} than its total."


def _content_problems(ledger: Ledger, book: RateBook, invoice: Invoice) -> Iterator[str]:
    if invoice.reverses:
        yield from _credit_problems(ledger, invoice)
        return
    usage = month_usage(ledger, book, Month.parse(invoice.month), "function", invoice.tenant)
    lines = usage.lines("function")
    if lines != invoice.lines:
        total = minor_text(sum(line.amount_minor for line in lines), invoice.exponent)
        yield (
            f"The lines of {invoice.number} are not what the journal and the rate cards come to,"
            f" which is {total} {invoice.currency}."
        )


def _credit_problems(ledger: Ledger, note: Invoice) -> Iterator[str]:
    invoice = ledger.documents.get(note.reverses)
    if invoice is None or invoice.kind != "invoice":
        yield f"{note.number} is about {note.reverses}, which is no invoice."
        return
    credited_minor = -sum(each.total_minor for each in ledger.documents.credit_notes(note.reverses))
    if credited_minor > invoice.total_minor:
        yield f"The credit notes on {note.reverses} are more than the invoice."
