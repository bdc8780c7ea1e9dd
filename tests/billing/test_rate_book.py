"""Tiers against decimals, cards in time, and cards as documents."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsfn.billing.rates import (
    BASES,
    Rate,
    RateBook,
    RateCard,
    Tier,
    canonical_text,
    card_document,
    read_card,
)
from dsfn.functions.errors import Conflict, UsageError

picos = st.integers(0, 10**15)
moments_us = st.integers(1, 4 * 10**15)


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    starts = sorted(draw(st.lists(st.integers(1, 10**9), max_size=4, unique=True)))
    return Rate(
        draw(picos),
        draw(st.sampled_from(BASES)),
        draw(picos),
        increment_us=draw(st.sampled_from([1, 1000, 60_000_000])),
        free_us=draw(st.integers(0, 10**9)),
        free_requests=draw(st.integers(0, 1000)),
        tiers=tuple(Tier(start, draw(picos)) for start in starts),
        tiering=draw(st.sampled_from(["graduated", "volume"])),
    )


cards = st.builds(
    RateCard,
    devices=st.fixed_dictionaries({"cpu": rates()}),
    default=rates(),
    effective_from_us=moments_us,
    discounts=st.dictionaries(st.sampled_from(["acme", "日本"]), st.integers(0, 10_000)),
    tax=st.integers(0, 10_000),
    taxes=st.dictionaries(st.sampled_from(["acme"]), st.integers(0, 10_000)),
    tax_name=st.sampled_from(["Tax", "VAT"]),
    minimum_minor=st.integers(0, 10**12),
)


def decimal_price(rate: Rate, before_us: int, quantity_us: int, month_us: int) -> Decimal:
    """The price in pico-currency, tier by tier, as a person would calculate it."""
    bounds = [0, *(tier.from_us for tier in rate.tiers), 10**30]
    prices = [rate.pico_per_second, *(tier.pico_per_second for tier in rate.tiers)]
    if rate.tiering == "volume":
        bands = [price for (low, high), price in zip(pairwise(bounds), prices, strict=True)
                 if low <= month_us < high]  # fmt: skip
        return Decimal(quantity_us) / 10**6 * bands[0]
    total = Decimal(0)
    for (low, high), price in zip(pairwise(bounds), prices, strict=True):
        inside = max(0, min(high, before_us + quantity_us) - max(low, before_us))
        total += Decimal(inside) / 10**6 * price
    return total


@given(rates(), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_tiers_agree_with_decimal(rate: Rate, before_us: int, used_us: int, later_us: int) -> None:
    month_us = before_us + used_us + later_us
    exact = decimal_price(rate, before_us, used_us, month_us)
    assert Decimal(rate.tiered_atto(before_us, used_us, month_us)) == exact * 10**6


@given(rates(), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_month_costs_the_same_however_it_is_cut(
    rate: Rate, a_us: int, b_us: int, c_us: int
) -> None:
    month_us = a_us + b_us + c_us
    pieces = [(0, a_us), (a_us, b_us), (a_us + b_us, c_us)]
    cut = sum(rate.tiered_atto(before, used, month_us) for before, used in pieces)
    assert cut == rate.tiered_atto(0, month_us, month_us)


@given(rates(), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_what_is_taken_back_is_worth_what_it_cost(
    rate: Rate, before_us: int, used_us: int, month_us: int
) -> None:
    cost = rate.tiered_atto(before_us, used_us, month_us)
    assert rate.tiered_atto(before_us + used_us, -used_us, month_us) == -cost


def test_a_use_that_reaches_two_tiers_pays_each_price_for_its_part() -> None:
    rate = Rate(10, tiers=(Tier(100, 5), Tier(200, 2)))
    assert rate.tiered_atto(50, 250, 300) == 50 * 10 + 100 * 5 + 100 * 2


@given(rates(), st.integers(0, 10**12), st.integers(0, 10**6))
def test_what_is_affordable_costs_no_more_and_an_increment_longer_does(
    rate: Rate, amount_nano: int, restore_us: int
) -> None:
    limit_us = rate.affordable_us(amount_nano, restore_us)
    if limit_us is None or limit_us < 0:
        return
    assert rate.cost_nano(limit_us, limit_us, restore_us) <= amount_nano
    more_us = limit_us + rate.increment_us
    exact = rate.amount_atto(rate.quantity_us(more_us, more_us, restore_us), 1)
    assert exact > amount_nano * 10**9


@given(cards)
def test_a_card_is_read_back_from_its_document(card: RateCard) -> None:
    assert read_card(card_document(card)) == card


def test_the_same_card_is_the_same_text_whatever_the_order_of_its_settings() -> None:
    one = {"tax": 5, "devices": {"b": {"pico_per_second": 1}, "a": {"pico_per_second": 2}}}
    other = {"devices": {"a": {"pico_per_second": 2}, "b": {"pico_per_second": 1}}, "tax": 5}
    assert canonical_text(read_card(one)) == canonical_text(read_card(other))


@given(
    st.lists(moments_us, unique=True, max_size=6),
    st.integers(0, 4 * 10**15),
    st.integers(0, 4 * 10**15),
)
def test_segments_cover_a_stretch_without_gap_or_overlap(
    moments: list[int], one: int, other: int
) -> None:
    book = RateBook.of(RateCard(), *(RateCard(effective_from_us=each) for each in moments))
    start_us, end_us = sorted((one, other))
    position_us = start_us
    for segment in book.segments(start_us, end_us):
        assert segment.start_us == position_us < segment.end_us
        assert book.at(segment.start_us) is segment.card is book.at(segment.end_us - 1)
        position_us = segment.end_us
    assert position_us == end_us


def test_a_book_numbers_its_cards_as_they_were_set_and_has_their_currency() -> None:
    euro = RateCard(currency="EUR", exponent=3)
    assert RateBook.of(replace(euro, number=7)).cards == (euro,)
    book = RateBook.of(euro, replace(euro, effective_from_us=20))
    book = book.adding(replace(euro, effective_from_us=10))
    assert [book.numbered(n).effective_from_us for n in (1, 2, 3)] == [0, 20, 10]
    assert (RateBook.of(euro).currency, RateBook.of(euro).exponent) == ("EUR", 3)
    assert book.changes_us() == (10, 20)


def test_a_stretch_from_one_card_to_the_next_is_one_segment() -> None:
    book = RateBook.of(RateCard(), RateCard(effective_from_us=10), RateCard(effective_from_us=20))
    (segment,) = book.segments(10, 20)
    assert (segment.start_us, segment.end_us, segment.card.number) == (10, 20, 2)


def test_a_card_holds_from_its_moment_to_the_microsecond() -> None:
    book = RateBook.of(RateCard(), RateCard(effective_from_us=20), RateCard(effective_from_us=10))
    assert [book.at(at_us).number for at_us in (0, 9, 10, 19, 20, 10**18)] == [1, 1, 3, 3, 2, 2]


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        (RateCard(effective_from_us=10), "Another rate card begins at 1970-01-01T00:00:00.000010Z"),
        (RateCard(currency="EUR", effective_from_us=20), "a ledger has one currency"),
        (RateCard(exponent=3, effective_from_us=20), "a ledger has one currency"),
    ],
)
def test_a_card_that_does_not_fit_the_others_is_refused(card: RateCard, sentence: str) -> None:
    book = RateBook.of(RateCard(), RateCard(effective_from_us=10))
    with pytest.raises(Conflict, match=sentence):
        book.adding(card)


@pytest.mark.parametrize(
    "moment", ["yesterday", "2026-11-01", "2026-11-01T00:00:00", 5, "1969-12-31T23:59:59Z"]
)
def test_a_moment_without_offset_or_before_1970_is_none(moment: object) -> None:
    with pytest.raises(UsageError, match=r"^effective_from must"):
        read_card({"effective_from": moment})


@pytest.mark.parametrize(("currency", "decimals"), [("JPY", 0), ("USD", 2), ("KWD", 3), ("CLF", 4)])
def test_a_currency_has_its_own_decimals(currency: str, decimals: int) -> None:
    assert read_card({"currency": currency}).exponent == decimals
    assert read_card({"currency": currency, "exponent": 6}).exponent == 6
