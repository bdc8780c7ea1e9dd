"""One row of the books: a document that a tenant gets."""

from __future__ import annotations

from operator import attrgetter
from typing import Literal, get_args

from dsfn.billing.checking import (
    MAX_AMOUNT_NANO,
    MAX_INSTANT_US,
    check_choice,
    check_integer,
    check_texts,
)
from dsfn.billing.periods import Month
from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass

ChargeKind = Literal["invoice", "credit"]
_KINDS: tuple[str, ...] = get_args(ChargeKind)


@dataclass(frozen=True, slots=True)
class Charge:
    """An invoice, or a credit note on one.

    `id`: the number of the document. `amount_nano`: its total, what is booked.
    `rounding_nano`: how much of that is there because lines are rounded, below 0 where
    rounding took something off. `period`: the month, "YYYY-MM". `reverses`: of a credit
    note, the number of its invoice.

    Raises `ValueError` for a value outside these limits: no such row may be built.
    """

    kind: ChargeKind
    id: str
    tenant: str
    currency: str
    amount_nano: int
    rounding_nano: int
    period: str
    at_us: int
    note: str = ""
    reverses: str = ""

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, _KINDS)
        check_texts(_texts(self), _REQUIRED_TEXTS, _OPTIONAL_TEXTS)
        check_integer("amount_nano", self.amount_nano, MAX_AMOUNT_NANO)
        check_integer("rounding_nano", self.rounding_nano, MAX_AMOUNT_NANO, least=-MAX_AMOUNT_NANO)
        check_integer("at_us", self.at_us, MAX_INSTANT_US)
        try:
            Month.parse(self.period)
        except UsageError as error:
            raise ValueError(f"period {self.period!r} is not a month") from error


_REQUIRED_TEXTS = ("id", "tenant", "currency", "period")
_OPTIONAL_TEXTS = ("note", "reverses")
_texts = attrgetter(*_REQUIRED_TEXTS, *_OPTIONAL_TEXTS)
