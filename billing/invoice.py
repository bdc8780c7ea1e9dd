"""What a tenant gets for a month: an invoice, its draft while the month is open, a credit note."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal

from dsfn.billing.charge import ChargeKind
from dsfn.billing.lines import Line, line_document, line_of
from dsfn.billing.parties import Parties, Party
from dsfn.billing.periods import DAY_US, Month, day_text
from dsfn.functions.values import dataclass

# Of the document; what changes its meaning changes this number.
VERSION = 1


@dataclass(frozen=True, slots=True)
class DayAmount:
    """What one function's usage of one day is on the invoice, at list price: the lines of usage,
    divided by largest remainder. All days and functions add up to these lines."""

    day: str
    function: str
    quantity_us: int
    amount_nano: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """One document for one tenant, with all that is printed on it; whoever renders it adds nothing.

    `number` is "" and `status` "open" while the month is: then it is an estimate. A credit note
    comes to less than 0; `reverses` is the number of the invoice that it is about, "" if it is
    about none, and `reason` says why. `issued_on` and `due_on` are dates, `due_on` of a credit
    note is "". `total_minor` is the sum of the lines, `tax_minor` the part of it that is tax.
    `days` are the usage for a chart, in order.
    """

    number: str
    kind: ChargeKind
    status: Literal["open", "closed"]
    month: str
    tenant: str
    issued_on: str
    due_on: str
    issuer: Party
    customer: Party
    currency: str
    exponent: int
    lines: tuple[Line, ...]
    days: tuple[DayAmount, ...] = ()
    terms: str = ""
    reverses: str = ""
    reason: str = ""

    @property
    def total_minor(self) -> int:
        """What is due; below 0 is a credit."""
        return sum(line.amount_minor for line in self.lines)

    @property
    def tax_minor(self) -> int:
        """The tax in the total."""
        return sum(line.amount_minor for line in self.lines if line.kind == "tax")

    @property
    def period(self) -> tuple[str, str]:
        """The first day of the month and the first one after it."""
        month = Month.parse(self.month)
        return day_text(month.start_us // DAY_US), day_text(month.end_us // DAY_US)

    def to_document(self) -> dict[str, Any]:
        """This invoice as a JSON-able document that `from_document` reads back."""
        start, end = self.period
        return {
            "version": VERSION,
            "number": self.number,
            "kind": self.kind,
            "status": self.status,
            "month": self.month,
            "period": {"start": start, "end": end},
            "tenant": self.tenant,
            "issued_on": self.issued_on,
            "due_on": self.due_on,
            "issuer": self.issuer.to_document(),
            "customer": self.customer.to_document(),
            "currency": self.currency,
            "exponent": self.exponent,
            "net_minor": self.total_minor - self.tax_minor,
            "tax_minor": self.tax_minor,
            "total_minor": self.total_minor,
            "lines": [line_document(line, "function") for line in self.lines],
            "days": [
                {
                    "day": each.day,
                    "function": each.function,
                    "quantity_us": each.quantity_us,
                    "amount_nano": each.amount_nano,
                    "amount_minor": each.amount_minor,
                }
                for each in self.days
            ],
            "terms": self.terms,
            "reverses": self.reverses,
            "reason": self.reason,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Invoice:
        """The invoice of a document that `to_document` made."""
        texts = ("number", "kind", "status", "month", "tenant", "issued_on", "due_on", "currency")
        return cls(
            **{name: document[name] for name in (*texts, "exponent", "terms")},
            issuer=Party.from_document(document["issuer"]),
            customer=Party.from_document(document["customer"]),
            lines=tuple(map(line_of, document["lines"])),
            days=tuple(DayAmount(**each) for each in document["days"]),
            reverses=document["reverses"],
            reason=document["reason"],
        )


def canonical_bytes(document: Mapping[str, Any]) -> bytes:
    """A document as JSON in UTF-8, with sorted keys and without white space: what is signed."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def digest_of(content: bytes) -> str:
    """The SHA-256 of a document's bytes, in hex."""
    return sha256(content).hexdigest()


def day_amounts(lines: Sequence[Line]) -> tuple[DayAmount, ...]:
    """The usage of a bill by day, by day and function; corrections are on the day of service."""
    found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for line in lines:
        if line.day is not None and line.function is not None:
            sums = found[line.day, line.function]
            sums[0] += line.quantity_us
            sums[1] += line.amount_nano
            sums[2] += line.amount_minor
    return tuple(DayAmount(*key, *sums) for key, sums in sorted(found.items()))


def invoice_of(
    month: str,
    tenant: str,
    lines: Sequence[Line],
    by_day: Sequence[Line],
    parties: Parties,
    currency: str,
    exponent: int,
    issued_at_us: int,
    number: str = "",
) -> Invoice:
    """A tenant's invoice from their lines of the month by function and by day; without a `number`
    a draft. A month in which more was corrected than used gives a credit note."""
    issued_day = issued_at_us // DAY_US
    is_credit = sum(line.amount_minor for line in lines) < 0
    return Invoice(
        number=number,
        kind="credit" if is_credit else "invoice",
        status="closed" if number else "open",
        month=month,
        tenant=tenant,
        issued_on=day_text(issued_day),
        due_on="" if is_credit else day_text(issued_day + parties.due_days),
        issuer=parties.issuer,
        customer=parties.customer(tenant),
        currency=currency,
        exponent=exponent,
        lines=tuple(lines),
        days=day_amounts(by_day),
        terms=parties.terms,
    )
