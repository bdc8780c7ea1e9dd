"""The rate cards of a ledger, kept in its database: appended and never changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace

from dsfn.billing.periods import Month, moment_text
from dsfn.billing.rates.book import RateBook
from dsfn.billing.rates.card import RateCard
from dsfn.billing.rates.reading import read_card
from dsfn.billing.rates.table import CardRow, CardTable, Source
from dsfn.billing.rates.writing import canonical_text, digest_of
from dsfn.functions.errors import Conflict, NotFound, UsageError
from dsfn.functions.values import dataclass

MAX_CARDS = 1000


@dataclass(frozen=True, slots=True)
class StoredCard:
    """A card as it is kept. `source`: who set it; `sha256`: of its canonical text."""

    card: RateCard
    set_at_us: int
    source: Source
    sha256: str


def _nothing_is_closed() -> int:
    return 0


class RateStore:
    """All rate cards of one ledger. Belongs to one thread, but for `book`.

    `closed_until_us` gives the end of the last closed month, 0 while none is: no card may begin
    before it.
    """

    def __init__(
        self,
        table: CardTable,
        configured: RateCard,
        now_us: int,
        closed_until_us: Callable[[], int] = _nothing_is_closed,
    ) -> None:
        """Reads the cards in the ledger's database. The configuration's is the first; when it has
        changed since, it is one more, in force from `now_us` on.

        Raises `UsageError` for a configuration that cannot follow, and for cards that are not
        what was set; `StorageFull`, `StoreUnavailable`.
        """
        self._table = table
        self._closed_until_us = closed_until_us
        self._cards = _checked(table.rows())
        if self._cards:
            self._book = RateBook.of(*(stored.card for stored in self._cards))
            self._follow(configured, now_us)
        else:
            first = replace(configured, effective_from_us=0)
            self._book = RateBook.of(first)
            self._append(first, now_us, "configuration")

    @property
    def book(self) -> RateBook:
        """The cards by their effective dates. May be read in any thread."""
        return self._book

    @property
    def cards(self) -> tuple[StoredCard, ...]:
        """The cards in the order in which they were set."""
        return tuple(self._cards)

    def get(self, number: int) -> StoredCard:
        """A card by its number. Raises `NotFound`."""
        if not 1 <= number <= len(self._cards):
            raise NotFound(f"There is no rate card {number}.", kind="rate card", name=str(number))
        return self._cards[number - 1]

    def until_us(self, card: RateCard) -> int | None:
        """When the next card takes over, None when no card does."""
        starts_us = (each.effective_from_us for each in self._book.cards)
        return next((start_us for start_us in starts_us if start_us > card.effective_from_us), None)

    def add(self, card: RateCard, now_us: int) -> StoredCard:
        """Keeps one card more. Raises `Conflict` for one that begins when another does or in a
        closed month, for another currency, and for one too many; `StorageFull`,
        `StoreUnavailable`."""
        return self._add(card, now_us, "set")

    def _follow(self, configured: RateCard, now_us: int) -> None:
        """Has the configuration be a card more when it is not the one that it was."""
        before = [each.card for each in self._cards if each.source == "configuration"][-1]
        as_before = replace(
            configured, effective_from_us=before.effective_from_us, number=before.number
        )
        if as_before != before:
            try:
                self._add(replace(configured, effective_from_us=now_us), now_us, "configuration")
            except Conflict as error:
                raise UsageError(f"[billing] in config.toml: {error.message}") from error

    def _add(self, card: RateCard, now_us: int, source: Source) -> StoredCard:
        closed_us = self._closed_until_us()
        if card.effective_from_us < closed_us:
            month = Month.containing(closed_us - 1).text
            raise Conflict(
                f"A rate card cannot begin at {moment_text(card.effective_from_us)}: the months"
                f" until {month} are closed.",
                closed_until=moment_text(closed_us),
            )
        if len(self._cards) >= MAX_CARDS:
            raise Conflict(f"There are {MAX_CARDS} rate cards already.", limit=MAX_CARDS)
        book = self._book.adding(card)
        stored = self._append(book.numbered(len(book.cards)), now_us, source)
        self._book = book
        return stored

    def _append(self, card: RateCard, now_us: int, source: Source) -> StoredCard:
        text = canonical_text(card)
        stored = StoredCard(card, now_us, source, digest_of(text))
        self._table.append(
            CardRow(card.number, card.effective_from_us, now_us, source, text, stored.sha256)
        )
        self._cards.append(stored)
        return stored


def card_in(row: CardRow) -> RateCard:
    """The card that a row keeps. Raises `UsageError` for one that is not what was set."""
    changed = UsageError(f"Rate card {row.number} in the ledger is not what was set.")
    if digest_of(row.document) != row.sha256:
        raise changed
    try:
        document = json.loads(row.document)
    except ValueError as error:
        raise changed from error
    if not isinstance(document, dict):
        raise changed
    card = read_card(document, f"rate card {row.number}")
    if card.effective_from_us != row.effective_from_us:
        raise changed
    return replace(card, number=row.number)


def _checked(rows: Iterable[CardRow]) -> list[StoredCard]:
    """The cards by their numbers. Raises `UsageError` for one that is not what was set."""
    cards: list[StoredCard] = []
    for row in rows:
        if row.number != len(cards) + 1:
            raise UsageError(f"Rate card {row.number} in the ledger is not what was set.")
        cards.append(StoredCard(card_in(row), row.set_at_us, row.source, row.sha256))
    return cards
