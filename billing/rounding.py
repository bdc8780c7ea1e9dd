"""Which card rounds a call's time up, and what that adds: by whole days, UTC.

A day in which one card takes over from another, and a call that lies in two days, are left out:
for these the rows themselves are read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterable, Mapping
from dataclasses import field
from operator import attrgetter
from typing import Any, NamedTuple

from dsfn.billing.entry import Entry
from dsfn.billing.periods import DAY_US
from dsfn.billing.rates.card import RateCard
from dsfn.billing.rates.rate import Rate
from dsfn.billing.rates.store import card_in
from dsfn.billing.rates.table import CardRow
from dsfn.billing.rollups import dimensions_of, times_of
from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass

# How the rows of these kinds count.
_SIGNS = {"usage": 1, "reversal": -1}
# Of the last card: days have 32 bits in PostgreSQL.
_END_OF_DAYS = 2**31 - 1


class PaddingKey(NamedTuple):
    """What the rows of one padding have in common. `day`: days since 1970-01-01."""

    card: int
    day: int
    period: str
    tenant: str
    key_id: str
    function: str
    revision: str
    workflow: str
    device_class: str
    status: str


Paddings = dict[tuple[Any, ...], int]


@dataclass(frozen=True, slots=True)
class Span:
    """A card that rounds, and the days for which it is in force whole: [first_day, last_day)."""

    card: RateCard
    first_day: int
    last_day: int


@dataclass(frozen=True, slots=True)
class Roundings:
    """The cards of a ledger that round, in the order of their days. `cards`: how many cards the
    ledger has, those that do not round among them."""

    spans: tuple[Span, ...] = ()
    cards: int = 0

    @classmethod
    def of(cls, rows: Iterable[CardRow]) -> Roundings:
        """Those among the cards of a ledger. One that is not what was set rounds nothing."""
        known = sorted(rows, key=attrgetter("effective_from_us"))
        ends = [row.effective_from_us // DAY_US for row in known[1:]]
        found = (
            Span(card, -(-row.effective_from_us // DAY_US), last_day)
            for row, last_day in zip(known, [*ends, _END_OF_DAYS], strict=False)
            if (card := _card_in(row)) is not None and card.rounds
        )
        spans = tuple(span for span in found if span.first_day < span.last_day)
        return cls(spans, len(known))

    def on(self, day: int) -> Span | None:
        """The card that rounds on all of a day."""
        index = bisect_right(self.spans, day, key=_first_day) - 1
        if index < 0 or day >= self.spans[index].last_day:
            return None
        return self.spans[index]

    def count(self, entries: Iterable[Entry], cards: Container[int]) -> Paddings:
        """What these cards add to the rows of calls among some, in us, by the fields of
        `PaddingKey`."""
        found: Paddings = {}
        for entry in entries:
            if (sign := _SIGNS.get(entry.kind)) is None:
                continue
            devices, started_at_us, busy_us, held_us, restore_us = times_of(entry)
            day = started_at_us // DAY_US
            span = self.on(day)
            if span is None or span.card.number not in cards:
                continue
            rate = span.card.rate(entry.device_class)
            if rate.increment_us > 1 and is_in_day(day, started_at_us, held_us):
                added_us = rate.padding_us(
                    busy_us * devices, held_us * devices, restore_us * devices
                )
                if added_us:
                    key = padding_key(span.card.number, day, entry)
                    found[key] = found.get(key, 0) + sign * added_us
        return found


@dataclass(frozen=True, slots=True)
class Alike:
    """What calls on one day and device class have in common when they are rounded: how, how they
    count, and up to which row of their chain they are counted."""

    card: int
    rate: Rate
    sign: int
    built_seq: int


@dataclass(frozen=True, slots=True)
class Counted:
    """Which rows a ledger says are in its paddings: those of its cards that round, in each chain
    up to a row. `built`: the number of that row, by card and chain."""

    roundings: Roundings = field(default_factory=Roundings)
    built: Mapping[tuple[int, int], int] = field(default_factory=dict)

    def alike(self, chain: int, day: int, kind: str, device_class: str) -> Alike | None:
        """How rows are counted that have this in common, None where they are not."""
        sign, span = _SIGNS.get(kind), self.roundings.on(day)
        if sign is None or span is None:
            return None
        number, rate = span.card.number, span.card.rate(device_class)
        built_seq = self.built.get((number, chain), 0)
        return Alike(number, rate, sign, built_seq) if rate.increment_us > 1 else None

    def is_used(self, card: int, day: int) -> bool:
        """Whether anybody reads what a card adds on a day: what it added before another took over
        is left where it is."""
        span = self.roundings.on(day)
        return span is not None and span.card.number == card


def is_in_day(day: int, started_at_us: int, held_us: int) -> bool:
    """Whether a call that begins on a day ends on it."""
    return (started_at_us + held_us - 1) // DAY_US <= day


def padding_key(card: int, day: int, entry: Entry) -> tuple[Any, ...]:
    """The fields of the `PaddingKey` of a row."""
    return (card, day, *dimensions_of(entry))


def _card_in(row: CardRow) -> RateCard | None:
    try:
        return card_in(row)
    except UsageError:
        return None


def _first_day(span: Span) -> int:
    return span.first_day
