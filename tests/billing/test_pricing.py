"""A month's bill by the cards in force, against an independent calculation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsfn.billing.lines import Line
from dsfn.billing.periods import DAY_US, Month
from dsfn.billing.rates import BILLABLE, Rate, RateBook, RateCard, Tier
from dsfn.billing.selection import By
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.statement import Statement, statement
from dsfn.billing.usage import Usage

MakeUsage = Callable[..., Usage]
NOVEMBER, DECEMBER = Month.parse("2026-11"), Month.parse("2026-12")
SECOND_US = 10**6
PICO = 10**12
BYS: tuple[By, ...] = ("day", "key", "run", "step", "revision")


@pytest.fixture
def bill(ledger: SqliteLedger, make_usage: MakeUsage) -> Callable[..., Statement]:
    """The bill of a month for calls, each told by what matters of it."""

    def made(calls: list[dict[str, Any]], *cards: RateCard, month: str = "2026-11") -> Statement:
        standard = {"started_at_us": NOVEMBER.start_us, "busy_us": 0}
        ledger.post(
            [
                make_usage(invocation_id=f"{n}", **{**standard, **call})
                for n, call in enumerate(calls)
            ]
        )
        return statement(ledger, RateBook.of(*cards), month)

    return made


Bill = Callable[..., Statement]


def card(start_us: int = 0, *, more: dict[str, Any] | None = None, **rate: Any) -> RateCard:
    """A card with one rate: a unit of the currency for a second, where nothing else is said."""
    cpu = Rate(**{"pico_per_second": PICO, **rate})
    return RateCard(devices={"cpu": cpu}, effective_from_us=start_us, **(more or {}))


def amounts(found: Statement) -> list[tuple[str, int]]:
    assert found.total_minor == sum(line.amount_minor for line in found.lines)
    return [(line.kind, line.amount_minor) for line in found.lines]


def test_a_call_is_split_where_the_rate_changes_to_the_microsecond(bill: Bill) -> None:
    change_us = NOVEMBER.start_us + 12 * 3600 * SECOND_US
    call = {"started_at_us": change_us - 3_000_001, "held_us": 5_000_001, "restore_us": 7}
    lines = bill([call], card(), card(change_us, pico_per_second=2 * PICO)).lines
    assert [(x.card, x.requests, x.held_us, x.restore_us, x.amount_minor) for x in lines] == [
        (1, 1, 3_000_001, 7, 300),
        (2, 0, 2_000_000, 0, 400),
    ]


def test_a_call_is_split_at_midnight_also_where_the_month_ends(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    start_us = NOVEMBER.end_us - DAY_US - 1
    ledger.post([make_usage(started_at_us=start_us, held_us=2 * DAY_US, busy_us=3)])
    book = RateBook.of(card())
    days = {
        (x.day, x.requests, x.held_us)
        for month in ("2026-11", "2026-12")
        for x in statement(ledger, book, month, "day").lines
    }
    assert days == {
        ("2026-11-29", 1, 1),
        ("2026-11-30", 0, DAY_US),
        ("2026-12-01", 0, DAY_US - 1),
    }


def test_each_requests_time_is_rounded_up_to_the_increment(bill: Bill) -> None:
    calls = [{"held_us": held_us} for held_us in (1, SECOND_US, SECOND_US + 1, 0)]
    (line,) = bill(calls, card(increment_us=SECOND_US)).lines
    assert (line.quantity_us, line.held_us, line.amount_minor) == (4 * SECOND_US, 2_000_002, 400)


def test_what_rounds_a_split_call_up_belongs_to_its_first_part(bill: Bill) -> None:
    change_us = NOVEMBER.start_us + DAY_US
    call = {"started_at_us": change_us - 1_200_000, "held_us": 1_500_000}
    cards = card(increment_us=SECOND_US), card(change_us, increment_us=60 * SECOND_US)
    assert [line.quantity_us for line in bill([call], *cards).lines] == [1_700_000, 300_000]


@pytest.mark.parametrize("basis", ["busy", "held", "held+restore"])
def test_a_call_over_midnight_that_is_corrected_costs_what_the_right_one_does(
    ledger: SqliteLedger, make_usage: MakeUsage, tmp_path: Path, basis: str
) -> None:
    wrong = make_usage(
        invocation_id="wrong",
        key_id="key-1",
        workflow="album",
        run="run-1",
        step="resize",
        started_at_us=NOVEMBER.start_us + DAY_US - 1_200_000,
        busy_us=2_500_001,
        held_us=3_400_000,
        restore_us=7,
    )
    at_us = wrong.started_at_us - SECOND_US
    right = replace(wrong, invocation_id="right", started_at_us=at_us, busy_us=1_500_001)
    beside = replace(
        wrong, invocation_id="beside", started_at_us=NOVEMBER.start_us, held_us=2_600_000
    )
    book = RateBook.of(card(basis=basis, increment_us=SECOND_US))
    with closing(SqliteLedger(tmp_path / "right.db")) as other:
        other.post([right, beside])
        expected = [statement(other, book, "2026-11", by).lines for by in BYS]
    ledger.post([wrong, beside])
    ledger.correct("wrong", right)
    assert [statement(ledger, book, "2026-11", by).lines for by in BYS] == expected
    (day, next_day), (of_key,), (of_run,), (of_step,), (of_revision,) = expected
    assert (day.requests, next_day.requests) == (2, 0)
    assert (of_key.requests, of_key.key) == (2, "key-1")
    assert (of_run.workflow, of_run.run, of_step.step) == ("album", "run-1", "resize")
    assert of_revision.revision == right.revision
    assert of_key.quantity_us == ((2 + 3) * SECOND_US if basis == "busy" else (4 + 3) * SECOND_US)


def test_tiers_and_allowance_go_on_over_a_change_of_rates(bill: Bill) -> None:
    change_us = NOVEMBER.start_us + DAY_US
    tiers = (Tier(10 * SECOND_US, PICO // 2),)
    cards = (
        card(free_us=4 * SECOND_US, free_requests=1, pico_per_request=PICO // 100, tiers=tiers),
        card(change_us, free_us=8 * SECOND_US, tiers=tiers),
    )
    calls = [
        {"held_us": 6 * SECOND_US},
        {"started_at_us": change_us, "held_us": 6 * SECOND_US},
    ]
    found = bill(calls, *cards)
    assert amounts(found) == [
        ("usage", 601),
        ("usage", 600),
        ("allowance", -401),
        ("allowance", -200),
        ("tier", -100),
    ]
    assert [(x.requests, x.quantity_us, x.note) for x in found.lines[2:]] == [
        (1, 4 * SECOND_US, "free of charge"),
        (0, 2 * SECOND_US, "free of charge"),
        (0, 4 * SECOND_US, "graduated tiers"),
    ]


def test_volume_tiers_price_the_whole_month(bill: Bill) -> None:
    volume = card(tiers=(Tier(10 * SECOND_US, PICO // 2),), tiering="volume")
    assert amounts(bill([{"held_us": 9 * SECOND_US}], volume)) == [("usage", 900)]
    again = [{"held_us": 9 * SECOND_US}, {"held_us": 11 * SECOND_US}]
    found = bill(again, volume)
    assert amounts(found) == [("usage", 2000), ("tier", -1000)]
    tier = found.lines[1]
    assert (tier.requests, tier.quantity_us, tier.note) == (0, 20 * SECOND_US, "volume tiers")


def test_discount_minimum_and_tax_are_calculated_from_the_lines_above(bill: Bill) -> None:
    terms = {
        "discounts": {"a": 3333},
        "minimum_minor": 500,
        "tax": 1900,
        "taxes": {"b": 0},
        "tax_name": "VAT",
    }
    calls = [
        {"tenant": "a", "held_us": 10 * SECOND_US},
        {"tenant": "b", "held_us": 2 * SECOND_US},
        {"tenant": "c", "held_us": 6 * SECOND_US},
        {"tenant": "d", "held_us": 6 * SECOND_US, "status": "platform"},
    ]
    found = bill(calls, card(more=terms))
    assert [(x.tenant, x.kind, x.amount_minor, x.note) for x in found.lines] == [
        ("a", "usage", 1000, ""),
        ("a", "discount", -333, "33.33 %"),
        ("a", "tax", 127, "VAT 19 %"),
        ("b", "usage", 200, ""),
        ("b", "minimum", 300, "the least for a month"),
        ("c", "usage", 600, ""),
        ("c", "tax", 114, "VAT 19 %"),
    ]
    times = [(x.busy_us, x.held_us, x.restore_us) for x in found.lines if x.kind != "usage"]
    assert set(times) == {(0, 0, 0)}


@pytest.mark.parametrize(("exponent", "amount"), [(0, 2), (2, 250), (3, 2500)])
def test_a_line_has_the_decimals_of_its_currency(bill: Bill, exponent: int, amount: int) -> None:
    call = {"held_us": 2_500_000}
    assert bill([call], card(more={"exponent": exponent})).total_minor == amount


def test_an_allowance_below_what_the_currency_has_is_on_the_bill(bill: Bill) -> None:
    found = bill([{"held_us": 4_000}], card(free_us=SECOND_US))
    assert [(x.kind, x.amount_minor, x.amount_nano) for x in found.lines] == [
        ("usage", 0, 4_000_000),
        ("allowance", 0, -4_000_000),
    ]


def test_an_allowance_never_takes_more_than_the_rounded_lines_it_is_about(bill: Bill) -> None:
    calls = [{"held_us": 4_000, "function": f"f{n}"} for n in range(100)]
    free = card(free_us=10**12, more={"tax": 1900})
    found = bill(calls, free)
    assert found.total_minor == 0
    assert [(x.amount_minor, x.amount_nano) for x in found.lines][-1] == (0, -400_000_000)


@st.composite
def books(draw: st.DrawFn) -> list[RateCard]:
    changes = draw(st.lists(st.integers(1, 30 * DAY_US - 1), max_size=3, unique=True))
    starts = [0, *(NOVEMBER.start_us + each for each in changes)]
    return [
        card(
            start_us,
            pico_per_second=draw(st.integers(0, PICO)),
            basis=draw(st.sampled_from(["busy", "held", "held+restore"])),
            pico_per_request=draw(st.integers(0, PICO)),
            increment_us=draw(st.sampled_from([1, 777, SECOND_US])),
        )
        for start_us in starts
    ]


calls: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(
        dict,
        tenant=st.sampled_from(["a", "b"]),
        device_class=st.just("cpu"),
        started_at_us=st.integers(NOVEMBER.start_us - 2 * DAY_US, NOVEMBER.end_us),
        held_us=st.integers(0, 3 * DAY_US),
        restore_us=st.integers(0, 10**7),
        status=st.sampled_from(["succeeded", "failed", "platform"]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(books(), calls, st.randoms(use_true_random=False))
def test_every_part_of_a_call_is_billed_once_by_the_card_in_force(
    tmp_path_factory: pytest.TempPathFactory,
    make_usage: MakeUsage,
    cards: list[RateCard],
    made: list[dict[str, Any]],
    chance: Any,
) -> None:
    rows = [
        make_usage(invocation_id=f"{n}", busy_us=chance.randint(0, call["held_us"]), **call)
        for n, call in enumerate(made)
    ]
    ledger = SqliteLedger(tmp_path_factory.mktemp("pricing") / "ledger.db")
    ledger.post(rows)
    book = RateBook.of(*cards)
    months = [statement(ledger, book, month) for month in ("2026-10", "2026-11", "2026-12")]
    ledger.close()
    lines = [line for month in months for line in month.lines]
    billed = [row for row in rows if row.status in BILLABLE]
    for name in ("held_us", "busy_us", "restore_us"):
        assert sum(getattr(x, name) for x in lines) == sum(getattr(row, name) for row in billed)
    assert sum(line.requests for line in lines) == len(billed)
    assert sum(device.held_us for month in months for device in month.devices) == sum(
        row.held_us + row.restore_us for row in rows
    )
    for each in book.cards:
        own = [line for line in lines if line.card == each.number]
        assert sum(line.held_us for line in own) == sum(_held_under(each, book, r) for r in billed)
        assert all(_is_exact(line, each) for line in own)


def _held_under(card: RateCard, book: RateBook, row: Usage) -> int:
    """The time of a row while a card was in force, and not the next."""
    later = [
        c.effective_from_us for c in book.cards if c.effective_from_us > card.effective_from_us
    ]
    until_us = min(later, default=10**18)
    start_us = max(row.started_at_us, card.effective_from_us)
    return max(0, min(row.started_at_us + row.held_us, until_us) - start_us)


def _is_exact(line: Line, card: RateCard) -> bool:
    """Whether a line is its quantities times the card's prices."""
    rate = card.rate("cpu")
    exact = Fraction(line.quantity_us, 10**6) * rate.pico_per_second
    exact += line.requests * rate.pico_per_request
    # Python rounds fractions half to even.
    return (line.amount_minor, line.amount_nano) == (round(exact / 10**10), round(exact / 1000))
