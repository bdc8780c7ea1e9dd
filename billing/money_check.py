"""Whether rate cards, closed months, documents and prints are what was set, closed and issued."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Any, Protocol

from dsfn.billing.issued import ClosedMonth, Issued
from dsfn.billing.money import NANO_EXPONENT
from dsfn.billing.periods import Month, moment_text
from dsfn.billing.rates.table import CardRow
from dsfn.billing.rates.writing import digest_of
from dsfn.billing.record import record_of_card, record_of_month
from dsfn.billing.signatures import is_signed
from dsfn.billing.succession import Terms
from dsfn.billing.verification import Problem
from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass

_NUMBER = re.compile(r"([0-9]{4}-[0-9]{2}-C?)([0-9]{4,18})")
# What a document's row says, too.
_SAID = ("number", "kind", "month", "tenant", "total_minor", "reverses")
_MAX_NANO = 2**63 - 1
# Nano-units in a minor unit, by the decimals of the currency as they are written.
_SCALES = {str(each): int(10 ** (NANO_EXPONENT - each)) for each in range(NANO_EXPONENT + 1)}


class MoneyTables(Protocol):
    """What a ledger keeps beside its journal about money, as of one moment."""

    def cards(self) -> Iterator[tuple[Any, ...]]:
        """The fields of `CardRow` of all rate cards, by their numbers."""

    def months(self) -> Iterator[tuple[Any, ...]]:
        """The fields of `ClosedMonth` of all closed months, in order."""

    def documents(self) -> Iterator[tuple[Any, ...]]:
        """The fields of `Issued` of all documents, by their numbers."""

    def stray_prints(self) -> Iterator[tuple[str, str]]:
        """Number and format of prints of no document."""


@dataclass(slots=True)
class MoneyCheck:
    """Looks at what is kept about money; finds at most `limit` problems. `terms`: who may have
    signed documents."""

    terms: Terms
    limit: int
    problems: list[Problem] = field(default_factory=list)
    # Of closed months the totals, None where one cannot be read; of months with invoices theirs.
    _closed: dict[str, int | None] = field(default_factory=dict)
    _invoiced: Counter[str] = field(default_factory=Counter)
    _numbers: dict[str, list[int]] = field(default_factory=dict)

    def look_at(self, tables: MoneyTables) -> Iterator[tuple[str, str, str, str, int | None]]:
        """Number, tenant, kind, what is reversed and amount in nano-units of each document, for the
        journal must have the same; the amount is None where a document cannot be read. Of cards
        and months it has the digest in the place of what is reversed, and moves nothing."""
        cards = [CardRow(*values) for values in tables.cards()]
        months = [ClosedMonth(*values) for values in tables.months()]
        self._look_at_cards(cards)
        self._look_at_months(months)
        for record in (*map(record_of_card, cards), *map(record_of_month, months)):
            yield record.id, "", record.kind, record.sha256, 0
        for values in tables.documents():
            issued = Issued(*values)
            yield (
                issued.number,
                issued.tenant,
                issued.kind,
                issued.reverses,
                self._look_at_document(issued),
            )
        self._compare_months()
        self._find_gaps()
        for number, format in tables.stray_prints():
            self._problem("print", f"The print of {number} as {format} is of no document.")

    def _look_at_cards(self, cards: Iterable[CardRow]) -> None:
        for card in cards:
            said = _read(card.document) or {}
            if digest_of(card.document) != card.sha256:
                self._problem("card", f"The SHA-256 of rate card {card.number} is not its own.")
            elif said.get("effective_from") != moment_text(card.effective_from_us):
                detail = f"Rate card {card.number} begins at another moment than it says."
                self._problem("card", detail)

    def _look_at_months(self, months: Iterable[ClosedMonth]) -> None:
        for closed in months:
            total_minor = _total_of(closed)
            self._closed[closed.month] = None
            if digest_of(closed.document) != closed.sha256:
                self._problem("month", f"The SHA-256 of {closed.month} is not its own.")
            elif total_minor is None:
                self._problem("month", f"The statement of {closed.month} is not one of that month.")
            else:
                self._closed[closed.month] = total_minor

    def _look_at_document(self, issued: Issued) -> int | None:
        """A document's amount in nano-units, None where it is not what was issued."""
        self._count(issued)
        content, term = issued.document.encode(), self.terms.get(issued.public_key)
        said = _read(issued.document)
        if digest_of(issued.document) != issued.sha256:
            self._problem("document", f"The SHA-256 of {issued.number} is not its own.")
        elif self.terms and (term is None or issued.issued_at_us > term.until_us):
            self._problem("document", f"{issued.number} is signed with another key.")
        elif not is_signed(content, issued.signature, issued.public_key):
            self._problem("document", f"The signature of {issued.number} is wrong.")
        elif said is None or any(said.get(name) != getattr(issued, name) for name in _SAID):
            detail = f"{issued.number} is not kept under its own number, tenant, month and total."
            self._problem("document", detail)
        elif (scale := _SCALES.get(str(said.get("exponent")))) is None:
            self._problem("document", f"{issued.number} has no decimals that a currency has.")
        else:
            return min(abs(issued.total_minor) * scale, _MAX_NANO)
        return None

    def _count(self, issued: Issued) -> None:
        if not issued.reverses:
            self._invoiced[issued.month] += issued.total_minor
        if match := _NUMBER.fullmatch(issued.number):
            found = self._numbers.setdefault(match[1], [0, 0])
            found[0] += 1
            found[1] = max(found[1], int(match[2]))

    def _compare_months(self) -> None:
        """An invoice is of a month that is closed, and those of one come to its statement."""
        for month in sorted(self._invoiced.keys() - self._closed.keys()):
            self._problem("month", f"The statement of {month} is missing, which has invoices.")
        for month, total_minor in self._closed.items():
            if total_minor is not None and total_minor != self._invoiced[month]:
                self._problem("month", f"The invoices of {month} do not come to its statement.")

    def _find_gaps(self) -> None:
        for prefix, (count, last) in sorted(self._numbers.items()):
            if count != last:
                detail = f"Of the numbers {prefix}... up to {last}, {last - count} are missing."
                self._problem("document", detail)

    def _problem(self, kind: str, detail: str) -> None:
        if len(self.problems) < self.limit:
            self.problems.append(Problem(None, kind, detail))


def _total_of(closed: ClosedMonth) -> int | None:
    """The total of a closed month's statement, None where it is no statement of that month."""
    try:
        end_us = Month.parse(closed.month).end_us
    except UsageError:
        return None
    match _read(closed.document):
        case {"month": closed.month, "total_minor": int(total_minor)} if closed.end_us == end_us:
            return total_minor
    return None


def _read(text: str) -> dict[str, Any] | None:
    """The object of a JSON text, None where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
