"""All rate cards, in the order of time: which is in force when."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace

from dsfn.billing.periods import moment_text
from dsfn.billing.rates.card import RateCard
from dsfn.functions.errors import Conflict
from dsfn.functions.values import dataclass


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
    def of(cls, first: RateCard, *later: RateCard) -> RateBook:
        """A book of cards in the order in which they were set. Raises `Conflict` as `adding`."""
        book = cls((replace(first, number=1),))
        for card in later:
            book = book.adding(card)
        return book

    @property
    def currency(self) -> str:
        """The currency of all cards."""
        return self.cards[0].currency

    @property
    def exponent(self) -> int:
        """The currency's decimals."""
        return self.cards[0].exponent

    def adding(self, card: RateCard) -> RateBook:
        """This book with one card more, wherever in time. Raises `Conflict` for one that begins
        when another does, and for another currency: a ledger has one."""
        first = self.cards[0]
        if (card.currency, card.exponent) != (first.currency, first.exponent):
            raise Conflict(
                f"A rate card in {card.currency} with {card.exponent} decimals cannot follow one in"
                f" {first.currency} with {first.exponent}: a ledger has one currency.",
                currency=first.currency,
                exponent=first.exponent,
            )
        if any(card.effective_from_us == each.effective_from_us for each in self.cards):
            moment = moment_text(card.effective_from_us)
            raise Conflict(
                f"Another rate card begins at {moment}; choose another moment.",
                effective_from=moment,
            )
        numbered = replace(card, number=len(self.cards) + 1)
        return RateBook(tuple(sorted((*self.cards, numbered), key=_start)))

    def numbered(self, number: int) -> RateCard:
        """A card by its number."""
        return next(card for card in self.cards if card.number == number)

    def at(self, instant_us: int) -> RateCard:
        """The card in force at a moment."""
        return self.cards[max(0, bisect_right(self.cards, instant_us, key=_start) - 1)]

    def changes_us(self) -> tuple[int, ...]:
        """The moments at which a card takes over from another."""
        return tuple(card.effective_from_us for card in self.cards[1:])

    def segments(self, start_us: int, end_us: int) -> Iterator[Segment]:
        """[start_us, end_us) in stretches that have one card each, in order."""
        position_us = start_us
        for card in self.cards[1:]:
            if position_us < card.effective_from_us < end_us:
                yield Segment(position_us, card.effective_from_us, self.at(position_us))
                position_us = card.effective_from_us
        if position_us < end_us:
            yield Segment(position_us, end_us, self.at(position_us))


def _start(card: RateCard) -> int:
    return card.effective_from_us
