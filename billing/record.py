"""One row of the books: what a rate card or a closed month was, so that the journal's chain binds
what is kept of it beside the journal."""

from __future__ import annotations

from operator import attrgetter
from typing import Literal, get_args

from dsfn.billing.checking import MAX_INSTANT_US, check_choice, check_integer, check_texts
from dsfn.billing.issued import ClosedMonth
from dsfn.billing.periods import Month
from dsfn.billing.queries import Execute
from dsfn.billing.rates.table import CardRow
from dsfn.functions.values import dataclass

RecordKind = Literal["card", "month"]
_KINDS: tuple[str, ...] = get_args(RecordKind)


@dataclass(frozen=True, slots=True)
class Record:
    """`id`: "card-2", or the month; `sha256`: of its canonical JSON; `period`: the month, or that
    in which the card was set. Nothing moves.

    Raises `ValueError` for a value that makes no sense: no such row may be built.
    """

    kind: RecordKind
    id: str
    sha256: str
    period: str
    at_us: int

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, _KINDS)
        check_texts(_texts(self), _TEXTS, ())
        check_integer("at_us", self.at_us, MAX_INSTANT_US)


def record_of_card(row: CardRow) -> Record:
    """The record of a rate card."""
    period = Month.containing(row.set_at_us).text
    return Record("card", f"card-{row.number}", row.sha256, period, row.set_at_us)


def record_of_month(closed: ClosedMonth) -> Record:
    """The record of a closed month."""
    return Record("month", closed.month, closed.sha256, closed.month, closed.closed_at_us)


def missing_records(read: Execute) -> list[Record]:
    """The records of a ledger that has none, because it is of before there were any. To one that
    has some none is added: what it lacks was put in by somebody."""
    if read("select_charge", ("card-1", "")):
        return []
    cards = [CardRow(*values) for values in read("select_cards", ())]
    months = [ClosedMonth(*values) for values in read("select_all_months", ())]
    return [*map(record_of_card, cards), *map(record_of_month, months)]


_TEXTS = ("id", "sha256", "period")
_texts = attrgetter(*_TEXTS)
