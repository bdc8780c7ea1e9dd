"""Rate cards in the ledger's database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dsfn.billing.periods import Month
from dsfn.billing.rates import Rate, RateCard, RateStore
from dsfn.billing.rates.store import MAX_CARDS
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.functions.errors import Conflict, NotFound, UsageError

NOVEMBER, DECEMBER = Month.parse("2026-11"), Month.parse("2026-12")
NOW_US = NOVEMBER.start_us + 5
FIRST = RateCard()
DEARER = RateCard(devices={"cpu": Rate(10**9)}, effective_from_us=DECEMBER.start_us)


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., RateStore]]:
    opened: list[SqliteLedger] = []

    def again(card: RateCard = FIRST, now_us: int = NOW_US, closed_us: int = 0) -> RateStore:
        while opened:
            opened.pop().close()
        opened.append(SqliteLedger(tmp_path / "ledger.db"))
        return RateStore(opened[0].cards(), card, now_us, lambda: closed_us)

    yield again
    opened[0].close()


OpenStore = Callable[..., RateStore]


def test_the_configuration_is_the_first_card_and_stays_it(open_store: OpenStore) -> None:
    (first,) = open_store().cards
    assert (first.card, first.source, first.set_at_us) == (RateCard(), "configuration", NOW_US)
    assert open_store(now_us=NOW_US + 1).cards == (first,)


def test_a_card_that_was_set_is_there_after_opening_again(open_store: OpenStore) -> None:
    stored = open_store().add(DEARER, NOW_US)
    assert (stored.card.number, stored.source) == (2, "set")
    again = open_store()
    assert again.get(2) == stored
    assert again.book.at(DECEMBER.start_us - 1) == RateCard()
    assert again.book.at(DECEMBER.start_us) == replace(DEARER, number=2)
    assert again.until_us(again.get(1).card) == DECEMBER.start_us
    assert again.until_us(stored.card) is None
    with pytest.raises(NotFound, match="no rate card 3"):
        again.get(3)


def test_a_configuration_that_changed_holds_from_then_on(open_store: OpenStore) -> None:
    open_store()
    changed = RateCard(devices={"cpu": Rate(7)})
    for _ in range(2):
        store = open_store(changed, NOVEMBER.start_us + 9)
        assert [each.source for each in store.cards] == ["configuration"] * 2
        assert store.book.at(NOVEMBER.start_us + 8).rate("cpu") == RateCard().rate("cpu")
        assert store.book.at(NOVEMBER.start_us + 9).rate("cpu") == Rate(7)


def test_a_configuration_of_another_currency_keeps_the_node_from_starting(
    open_store: OpenStore,
) -> None:
    open_store()
    with pytest.raises(UsageError, match=r"config\.toml: A rate card in EUR .* one currency"):
        open_store(RateCard(currency="EUR"))


def test_no_card_begins_in_a_closed_month(open_store: OpenStore) -> None:
    store = open_store(closed_us=DECEMBER.start_us)
    with pytest.raises(Conflict, match="the months until 2026-11 are closed"):
        store.add(replace(DEARER, effective_from_us=DECEMBER.start_us - 1), NOW_US)
    assert len(store.cards) == 1
    store.add(DEARER, NOW_US)


def test_a_card_that_is_refused_leaves_nothing(open_store: OpenStore) -> None:
    store = open_store()
    store.add(DEARER, NOW_US)
    with pytest.raises(Conflict, match="Another rate card begins at 2026-12-01T00:00:00Z"):
        store.add(DEARER, NOW_US)
    assert len(store.cards) == len(open_store().cards) == 2


def test_there_is_a_limit_of_cards(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_CARDS == 1000
    monkeypatch.setattr("dsfn.billing.rates.store.MAX_CARDS", 2)
    store = open_store()
    store.add(DEARER, NOW_US)
    with pytest.raises(Conflict, match="There are 2 rate cards already"):
        store.add(replace(DEARER, effective_from_us=DECEMBER.end_us), NOW_US)


TAMPERING = {
    "update": "UPDATE rate_cards SET document = '{}'",
    "delete": "DELETE FROM rate_cards",
    "replace the number": "REPLACE INTO rate_cards"
    " SELECT number, 77, set_at_us, source, document, sha256 FROM rate_cards WHERE number = 2",
    "replace the moment": "REPLACE INTO rate_cards"
    " SELECT 3, effective_from_us, 0, source, document, sha256 FROM rate_cards WHERE number = 2",
}


@pytest.mark.parametrize("statement", TAMPERING.values(), ids=TAMPERING)
def test_the_database_itself_keeps_a_card_as_it_was_set(
    open_store: OpenStore, tmp_path: Path, statement: str
) -> None:
    cards = (open_store(), open_store().add(DEARER, NOW_US))[0].cards
    before = open_store().cards
    assert before[:1] == cards
    # Python's own SQLite, with none of the ledger's settings.
    other = sqlite3.connect(tmp_path / "ledger.db")
    with pytest.raises(sqlite3.IntegrityError, match="a rate card is never"):
        other.execute(statement)
    other.close()
    assert open_store().cards == before


@pytest.mark.parametrize(
    "change", ["document = replace(document, 'USD', 'EUR')", "effective_from_us = 5", "number = 9"]
)
def test_a_card_that_was_tampered_with_all_the_same_is_named(
    open_store: OpenStore, tmp_path: Path, change: str
) -> None:
    open_store().add(DEARER, NOW_US)
    other = sqlite3.connect(tmp_path / "ledger.db")
    other.execute("DROP TRIGGER rate_cards_are_never_updated")
    other.execute(f"UPDATE rate_cards SET {change} WHERE number = 2")
    other.commit()
    other.close()
    with pytest.raises(UsageError, match=r"Rate card [29] in the ledger is not what was set"):
        open_store()
