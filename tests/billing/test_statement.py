from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsfn.billing.lines import Line
from dsfn.billing.periods import DAY_US, Month
from dsfn.billing.ranges import Range
from dsfn.billing.rates import BASES, Rate, RateBook, RateCard
from dsfn.billing.selection import BYS
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.statement import Statement, range_statement, statement
from dsfn.billing.usage import STATUSES, Usage
from dsfn.functions.errors import UsageError

MakeUsage = Callable[..., Usage]
NOVEMBER = Month.parse("2026-11")

usages = st.builds(
    Usage,
    invocation_id=st.uuids().map(str),
    tenant=st.sampled_from(["a", "b"]),
    caller=st.just(""),
    function=st.sampled_from(["echo", "embed"]),
    revision=st.sampled_from(["r1", "r2"]),
    device_class=st.sampled_from(["cpu", "gpu"]),
    started_at_us=st.integers(NOVEMBER.start_us - DAY_US, NOVEMBER.end_us + DAY_US),
    busy_us=st.integers(0, 10**12),
    held_us=st.integers(0, 10**12),
    restore_us=st.integers(0, 10**9),
    status=st.sampled_from(STATUSES),
)
batches = st.lists(usages, max_size=30, unique_by=lambda usage: usage.invocation_id)
rates = st.builds(Rate, st.integers(0, 10**12), st.sampled_from(BASES), st.integers(0, 10**12))
cards = st.builds(
    RateCard,
    exponent=st.integers(0, 9),
    devices=st.fixed_dictionaries({"cpu": rates}),
    default=rates,
)


def bill(
    posts: Iterable[list[Usage]], card: RateCard, by: str = "function", month: str = "2026-11"
) -> Statement:
    """The statement of a fresh ledger with these posts."""
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(SqliteLedger(Path(directory) / "ledger.db")) as ledger,
    ):
        for post in posts:
            ledger.post(post)
        return statement(ledger, RateBook.of(card), month, by)


def at_us(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


@settings(max_examples=25, deadline=None)
@given(batches, cards, st.sampled_from(BYS), st.randoms(use_true_random=False))
def test_order_and_repeats_of_posts_do_not_change_the_statement(
    rows: list[Usage], card: RateCard, by: str, chance: random.Random
) -> None:
    shuffled = rows + chance.sample(rows, len(rows) // 2)
    chance.shuffle(shuffled)
    cut = chance.randint(0, len(shuffled))
    once = bill([rows], card, by)
    assert bill([shuffled[:cut], shuffled[cut:], rows], card, by) == once


@settings(max_examples=25, deadline=None)
@given(batches, cards)
def test_lines_agree_with_decimal_and_add_up(rows: list[Usage], card: RateCard) -> None:
    result = bill([rows], card)
    in_month = [r for r in rows if NOVEMBER.start_us <= r.started_at_us < NOVEMBER.end_us]
    billed = [row for row in in_month if row.status in card.billed]
    assert result.total_minor == sum(line.amount_minor for line in result.lines)
    assert sum(line.requests for line in result.lines) == len(billed)
    due = [row for row in rows if row.status in card.billed]
    assert sum(line.held_us for line in result.lines) == sum(map(held_in_november, due))
    for line in result.lines:
        amount = exact(line, card)
        assert line.amount_minor == _rounded(amount, card.exponent)
        assert line.amount_nano == _rounded(amount, 9)


def exact(line: Line, card: RateCard) -> Decimal:
    rate = card.rate(line.device_class or "")
    time = Decimal(line.quantity_us) * rate.pico_per_second / 10**6
    return (time + Decimal(line.requests) * rate.pico_per_request) / 10**12


@settings(max_examples=25, deadline=None)
@given(batches, cards, st.sampled_from(BYS))
def test_whatever_a_bill_is_by_divides_the_lines_of_the_invoice(
    rows: list[Usage], card: RateCard, by: str
) -> None:
    invoiced, divided = bill([rows], card), bill([rows], card, by)
    assert divided.total_minor == invoiced.total_minor
    for name in ("amount_minor", "amount_nano", "quantity_us", "requests"):
        assert _by_function(divided, name) == _by_function(invoiced, name)
    for line in divided.lines:
        off = line.amount_minor - exact(line, card).scaleb(card.exponent)
        assert abs(off) < 1


def _by_function(result: Statement, name: str) -> dict[tuple[object, ...], int]:
    found: dict[tuple[object, ...], int] = {}
    for line in result.lines:
        key = (line.tenant, line.function, line.device_class, line.card)
        found[key] = found.get(key, 0) + getattr(line, name)
    return found


def held_in_november(row: Usage) -> int:
    end_us = min(row.started_at_us + row.held_us, NOVEMBER.end_us)
    return max(0, end_us - max(row.started_at_us, NOVEMBER.start_us))


def _rounded(amount: Decimal, exponent: int) -> int:
    return int(amount.scaleb(exponent).quantize(Decimal(1), ROUND_HALF_EVEN))


@pytest.mark.parametrize(
    ("instant", "month"),
    [
        ("2026-10-31T23:59:59.999999", "2026-10"),
        ("2026-11-01T00:00:00", "2026-11"),
        ("2026-12-31T23:59:59.999999", "2026-12"),
        ("2027-01-01T00:00:00", "2027-01"),
        ("2028-02-29T12:00:00", "2028-02"),
        ("2028-03-01T00:00:00", "2028-03"),
    ],
)
def test_a_request_is_on_the_bill_of_the_month_it_started_in(
    make_usage: MakeUsage, instant: str, month: str
) -> None:
    whole, _, micros = instant.partition(".")
    row = make_usage(started_at_us=at_us(whole) + int(micros or 0), held_us=1, busy_us=1)
    period = Month.parse(month)
    neighbours = [Month.containing(period.start_us - 1).text, Month.containing(period.end_us).text]
    assert [line.requests for line in bill([[row]], RateCard(), month=month).lines] == [1]
    for other in neighbours:
        assert bill([[row]], RateCard(), month=other).lines == ()


def test_a_statement_reads_as_documented(make_usage: MakeUsage) -> None:
    card = RateCard(devices={"cpu": Rate(10**12, "held+restore", 5 * 10**9)})
    rows = [
        make_usage(invocation_id="a", held_us=1_234_000, restore_us=1_000),
        make_usage(invocation_id="b", held_us=500_000, busy_us=1, status="failed"),
        make_usage(invocation_id="c", held_us=700, status="platform"),
    ]
    document = bill([rows], card, month="2026-09").to_document()
    assert json.loads(json.dumps(document)) == {
        "month": "2026-09",
        "start": "2026-09-01T00:00:00Z",
        "end": "2026-10-01T00:00:00Z",
        "by": "function",
        "tenant": None,
        "status": "open",
        "currency": "USD",
        "exponent": 2,
        "total_minor": 174,
        "expected_minor": None,
        "lines": [
            {
                "kind": "usage",
                "tenant": "default",
                "function": "echo",
                "device_class": "cpu",
                "card": 1,
                "requests": 2,
                "quantity_us": 1_735_000,
                "busy_us": 101,
                "held_us": 1_734_000,
                "restore_us": 1_000,
                "amount_nano": 1_745_000_000,
                "amount_minor": 174,
                "note": "",
                "service_month": None,
            }
        ],
        "devices": [
            {
                "device_class": "cpu",
                "held_us": 1_735_700,
                "requests_us": 1_734_700,
                "restore_us": 1_000,
                "idle_us": 0,
            }
        ],
    }


def test_lines_are_sorted_and_named_by_what_was_asked_for(make_usage: MakeUsage) -> None:
    days = [("b", "2026-11-02"), ("a", "2026-11-10"), ("a", "2026-11-09"), ("a", "2026-11-10")]
    rows = [
        make_usage(
            invocation_id=f"{n}",
            function=function,
            revision=f"{function}-{n}",
            started_at_us=at_us(day),
        )
        for n, (function, day) in enumerate(days)
    ]
    by_day: list[dict[str, Any]] = bill([rows], RateCard(), "day").to_document()["lines"]
    assert [(x["function"], x["day"], x["requests"]) for x in by_day] == [
        ("a", "2026-11-09", 1),
        ("a", "2026-11-10", 2),
        ("b", "2026-11-02", 1),
    ]
    assert "revision" not in by_day[0]
    by_revision: list[dict[str, Any]] = bill([rows], RateCard(), "revision").to_document()["lines"]
    assert [x["revision"] for x in by_revision] == ["a-1", "a-2", "a-3", "b-0"]
    assert "day" not in by_revision[0]


def test_a_month_without_usage_is_an_empty_bill() -> None:
    result = bill([], RateCard())
    assert (result.total_minor, result.lines, result.devices) == (0, (), ())


@pytest.mark.parametrize(("month", "by"), [("2026-13", "day"), ("2026-11", "tenant")])
def test_a_wrong_month_or_key_is_a_usage_error(month: str, by: str) -> None:
    with pytest.raises(UsageError):
        bill([], RateCard(), by, month)


@settings(max_examples=25, deadline=None)
@given(
    batches,
    st.lists(st.integers(NOVEMBER.start_us + 1, NOVEMBER.end_us - 1), max_size=4, unique=True),
    st.sampled_from(BYS),
)
def test_stretches_of_time_add_up_wherever_they_are_cut(
    rows: list[Usage], cuts: list[int], by: str
) -> None:
    bounds = [NOVEMBER.start_us, *sorted(cuts), NOVEMBER.end_us]
    book = RateBook.of(RateCard())
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(SqliteLedger(Path(directory) / "ledger.db")) as ledger,
    ):
        ledger.post(rows)
        whole = statement(ledger, book, "2026-11", by)
        parts = [
            range_statement(ledger, book, Range(start_us, end_us), by)
            for start_us, end_us in pairwise(bounds)
        ]
    for name in ("requests", "quantity_us", "held_us", "restore_us"):
        found = sum(getattr(line, name) for part in parts for line in part.lines)
        assert found == sum(getattr(line, name) for line in whole.lines)


def test_a_bill_by_run_has_a_limit_of_lines(
    ledger: SqliteLedger, make_usage: MakeUsage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.post([make_usage(invocation_id=f"{n}", run=f"run-{n % 5}") for n in range(10)])
    book = RateBook.of(RateCard())
    monkeypatch.setattr("dsfn.billing.usage_sums.MAX_SUMS", 5)
    assert len(statement(ledger, book, "2026-09", "run").lines) == 5
    monkeypatch.setattr("dsfn.billing.usage_sums.MAX_SUMS", 4)
    with pytest.raises(UsageError, match="choose a shorter time, or one tenant"):
        statement(ledger, book, "2026-09", "run")
