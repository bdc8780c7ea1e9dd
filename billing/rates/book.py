"""All rate cards, in the order of time: which is in force when."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from dsfn.billing.rates.card import RateCard
from dsfn.functions.errors import UsageError


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time, [start_us, end_us), with the card in force."""

    start_us: int
    end_us: int
    card: RateCard


@dataclass(frozen=True, slots=True)
class RateBook:
    """Cards by their effective dates; the first holds from the beginning of time."""

    cards: tuple[RateCard, ...]

    @classmethod
    def of(cls, first: RateCard, later: Iterable[RateCard] = ()) -> RateBook:
        """A book of cards. Raises `UsageError` when two begin at once, and when the currency
        changes: a ledger has one."""
        cards = [first, *sorted(later, key=lambda card: card.effective_from_us)]
        for before, after in pairwise(cards):
            if after.effective_from_us <= before.effective_from_us:
                raise UsageError("Two rate cards are effective from the same moment.")
            if (after.currency, after.exponent) != (before.currency, before.exponent):
                raise UsageError(
                    f"A rate card in {after.currency} cannot follow one in {before.currency}:"
                    " a ledger has one currency."
                )
        return cls(tuple(cards))

    def at(self, instant_us: int) -> RateCard:
        """The card in force at a moment."""
        starts = [card.effective_from_us for card in self.cards]
        return self.cards[max(0, bisect_right(starts, instant_us) - 1)]

    def segments(self, start_us: int, end_us: int) -> Iterator[Segment]:
        """[start_us, end_us) in stretches that have one card each, in order."""
        position_us = start_us
        for card in self.cards[1:]:
            if position_us < card.effective_from_us < end_us:
                yield Segment(position_us, card.effective_from_us, self.at(position_us))
                position_us = card.effective_from_us
        if position_us < end_us:
            yield Segment(position_us, end_us, self.at(position_us))
