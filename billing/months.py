"""Months: what is due in one, closing it, and the documents that follow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from dsfn.billing.charge import Charge, ChargeKind
from dsfn.billing.credit import credit_note
from dsfn.billing.document_check import DocumentCheck, check_document
from dsfn.billing.invoice import (
    Invoice,
    canonical_bytes,
    digest_of,
    invoice_of,
)
from dsfn.billing.issued import ClosedMonth, Issue, Issued
from dsfn.billing.ledger import Ledger
from dsfn.billing.lines import Line
from dsfn.billing.money import NANO_EXPONENT
from dsfn.billing.parties import Parties
from dsfn.billing.periods import Month, moment_text
from dsfn.billing.rates import RateBook
from dsfn.billing.replacement import Correction, corrected, next_id
from dsfn.billing.signing import SigningKey
from dsfn.billing.statement import Statement, by_of, month_statement, month_usage, statement
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, IdempotencyMismatch, NotFound
from dsfn.functions.values import dataclass

# Numbers within a month have four digits, or more where there are more documents.
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Months:
    """The months of a ledger. `sign` has the ledger sign what it has come to.

    Reads may run in any thread. `start_closing`, `issue`, `credit` and `correct` belong to the
    thread that posts to the ledger.
    """

    ledger: Ledger
    book: Callable[[], RateBook]
    parties: Parties
    key: SigningKey
    sign: Callable[[], None]

    def report(self, month: str, by: str, tenant: str, now_us: int) -> Statement:
        """The bill of a month; of a closed one by function, the one that was made then."""
        closed = self.ledger.documents.month(month)
        if closed is None:
            return statement(self.ledger, self.book(), month, by, tenant).expecting(now_us)
        then = Statement.from_text(closed.document)
        if by_of(by) == "function":
            return then.of_tenant(tenant) if tenant else then
        divided = statement(self.ledger, self.book(), month, by, tenant)
        return replace(divided, devices=then.devices)

    def drafts(self, month: str, tenant: str, now_us: int) -> list[Invoice]:
        """The invoices of a month, by tenant: those that were issued, or what they would be."""
        period = Month.parse(month)
        if period.end_us <= self.ledger.closed_until_us:
            issued = self.ledger.documents.all(month, tenant)
            return [invoice_in(each) for each in issued if not each.reverses]
        book = self.book()
        usage = month_usage(self.ledger, book, period, "day", tenant)
        days = _by_tenant(usage.lines("day"))
        return [
            invoice_of(
                month,
                name,
                lines,
                days[name],
                self.parties,
                book.currency,
                book.exponent,
                now_us,
            )
            for name, lines in _by_tenant(usage.lines("function")).items()
        ]

    def start_closing(self, month: str, now_us: int) -> bool:
        """Has whatever comes from now on be billed in a later month than this; whether the month
        is still to be closed. Raises `Conflict` for one that is not over, or not the next."""
        period = Month.parse(month)
        if period.end_us <= self.ledger.closed_until_us:
            return False
        if now_us < period.end_us:
            raise Conflict(
                f"{month} is not over: it can be closed from {moment_text(period.end_us)} on.",
                month=month,
            )
        closed_us = self.ledger.closed_until_us
        first = Month.containing(closed_us).text
        open_months = [each for each in self.ledger.months() if each >= first]
        if open_months and open_months[0] < month:
            raise Conflict(
                f"{open_months[0]} must be closed before {month}.",
                month=month,
                first=open_months[0],
            )
        self.ledger.start_closing(period.end_us)
        return True

    def prepare(self, month: str, now_us: int) -> Issue:
        """The documents that close a month, one invoice for each tenant with something to bill."""
        period, book = Month.parse(month), self.book()
        usage = month_usage(self.ledger, book, period, "day")
        lines = usage.lines("function")
        days = _by_tenant(usage.lines("day"))
        invoices = [
            invoice_of(
                month,
                name,
                own,
                days[name],
                self.parties,
                book.currency,
                book.exponent,
                now_us,
                f"{month}-{number:0{_DIGITS}d}",
            )
            for number, (name, own) in enumerate(_by_tenant(lines).items(), 1)
        ]
        whole = month_statement(self.ledger, book, period, "function", lines)
        content = canonical_bytes(replace(whole, status="closed").to_document())
        closed = ClosedMonth(month, period.end_us, now_us, content.decode(), digest_of(content))
        return Issue(
            tuple(self._issued(invoice, now_us) for invoice in invoices),
            tuple(_charge(invoice, month, now_us) for invoice in invoices),
            closed,
        )

    def issue(self, issue: Issue) -> None:
        """Keeps documents for ever, and signs what the ledger has come to with them. Raises
        `Conflict`, `StorageFull`."""
        self.ledger.issue(issue)
        self.sign()

    def closed(self, month: str) -> tuple[ClosedMonth, list[Issued]]:
        """A month that is closed, and its invoices. Raises `NotFound`."""
        found = self.ledger.documents.month(month)
        if found is None and Month.parse(month).end_us <= self.ledger.closed_until_us:
            raise NotFound(
                f"{month} was closed with a later month: nothing was billed in it.",
                kind="closed month",
                name=month,
            )
        if found is None:
            raise NotFound(f"{month} is not closed.", kind="closed month", name=month)
        documents = self.ledger.documents.all(month)
        return found, [each for each in documents if not each.reverses]

    def issued(self, number: str) -> Issued:
        """A document by its number. Raises `NotFound`."""
        found = self.ledger.documents.get(number)
        if found is None:
            raise NotFound(f"There is no document {number}.", kind="document", name=number)
        return found

    def credit(self, number: str, amount_minor: int, reason: str, key: str, now_us: int) -> Issued:
        """Issues a credit note on an invoice. The same `key` again gives the same one.

        Raises `NotFound`, `Conflict` for more than is left of the invoice, `IdempotencyMismatch`,
        `UsageError`, `StorageFull`.
        """
        invoice = invoice_in(self.issued(number))
        before = self.ledger.documents.of_key(key) if key else None
        if before is not None:
            if (before.reverses, -before.total_minor) != (number, amount_minor):
                raise IdempotencyMismatch("The key was used for another credit note.", key=key)
            return before
        period = Month.containing(max(now_us, self.ledger.closed_until_us)).text
        notes = self.ledger.documents.credit_notes(number)
        note = credit_note(
            invoice,
            map(invoice_in, notes),
            amount_minor,
            reason,
            self._credit_number(period),
            now_us,
        )
        issued = self._issued(note, now_us, key)
        self.issue(Issue((issued,), (_charge(note, period, now_us),)))
        return issued

    def correct(self, invocation_id: str, correction: Correction) -> Usage:
        """Puts another row in the place of a call's; what its price changes is billed in the first
        open month. The same again changes nothing.

        Raises `NotFound`, `UsageError`, `Conflict` for a call that was corrected otherwise.
        """
        usage = self.ledger.usage(invocation_id)
        if usage is None:
            raise NotFound(
                f"There is no call {invocation_id} in the ledger.",
                kind="usage",
                name=invocation_id,
            )
        replacement = corrected(usage, correction)
        if self.ledger.usage(replacement.invocation_id) not in (None, replacement):
            last = self._last_for(replacement.invocation_id)
            raise Conflict(
                f"Call {invocation_id} has been corrected already: {last} stands in its place, and"
                " is the row to correct now.",
                invocation_id=invocation_id,
            )
        self.ledger.correct(invocation_id, replacement)
        return replacement

    def _last_for(self, invocation_id: str) -> str:
        """The last of the rows that stand in for each other, this one among them."""
        while self.ledger.usage(following := next_id(invocation_id)) is not None:
            invocation_id = following
        return invocation_id

    def verify(self, number: str) -> DocumentCheck:
        """Whether a document is what was issued. Raises `NotFound`."""
        return check_document(self.ledger, self.book(), self.issued(number))

    def _credit_number(self, period: str) -> str:
        prefix = f"{period}-C"
        return f"{prefix}{self.ledger.documents.numbered(prefix) + 1:0{_DIGITS}d}"

    def _issued(self, invoice: Invoice, now_us: int, key: str = "") -> Issued:
        content = canonical_bytes(invoice.to_document())
        return Issued(
            number=invoice.number,
            kind=invoice.kind,
            month=invoice.month,
            tenant=invoice.tenant,
            total_minor=invoice.total_minor,
            issued_at_us=now_us,
            reverses=invoice.reverses,
            idempotency_key=key,
            document=content.decode(),
            sha256=digest_of(content),
            public_key=self.key.public_key,
            signature=self.key.sign(content).hex(),
        )


def invoice_in(issued: Issued) -> Invoice:
    """What an issued document says."""
    return Invoice.from_document(json.loads(issued.document))


def _charge(invoice: Invoice, period: str, at_us: int) -> Charge:
    """The rows of the journal for a document. One that comes to less than nothing is a credit."""
    kind: ChargeKind = "credit" if invoice.total_minor < 0 else "invoice"
    sign = -1 if kind == "credit" else 1
    amount_nano = sign * invoice.total_minor * 10 ** (NANO_EXPONENT - invoice.exponent)
    exact_nano = sign * sum(line.amount_nano for line in invoice.lines)
    return Charge(
        kind=kind,
        id=invoice.number,
        tenant=invoice.tenant,
        currency=invoice.currency,
        amount_nano=amount_nano,
        rounding_nano=amount_nano - exact_nano,
        period=period,
        at_us=at_us,
        note=invoice.reason,
        reverses=invoice.reverses,
    )


def _by_tenant(lines: Iterable[Line]) -> dict[str, Sequence[Line]]:
    """Lines that are in the order of their tenants."""
    return {name: tuple(own) for name, own in groupby(lines, lambda line: line.tenant)}
