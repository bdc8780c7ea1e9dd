"""One row of the books: money that is set aside for a call, and given back."""

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
from dsfn.functions.values import dataclass

ReservationKind = Literal["reserve", "post", "void"]
_KINDS: tuple[str, ...] = get_args(ReservationKind)


@dataclass(frozen=True, slots=True)
class Reservation:
    """The most that a call may cost, taken off its tenant's budget while it runs.

    "reserve" takes it, "post" (the call is in the books) or "void" (it did not run) gives
    it back; one of the two, once. `id`: the invocation. `amount_nano`: the same in both.
    `at_us`: UTC microseconds since the epoch.

    Raises `ValueError` for a value outside these limits: no such row may be built.
    """

    kind: ReservationKind
    id: str
    tenant: str
    key_id: str
    currency: str
    amount_nano: int
    at_us: int

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, _KINDS)
        check_texts(_texts(self), _REQUIRED_TEXTS, _OPTIONAL_TEXTS)
        check_integer("amount_nano", self.amount_nano, MAX_AMOUNT_NANO)
        check_integer("at_us", self.at_us, MAX_INSTANT_US)


_REQUIRED_TEXTS = ("id", "tenant", "currency")
_OPTIONAL_TEXTS = ("key_id",)
_texts = attrgetter(*_REQUIRED_TEXTS, *_OPTIONAL_TEXTS)
