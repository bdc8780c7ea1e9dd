"""What a run cost, step by step, beside the ledger's rows and the month's bill."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsfn.billing.lines import Priced, usage_lines
from dsfn.billing.rates import Rate, RateBook, RateCard
from dsfn.billing.run_cost import Cost, run_cost
from dsfn.billing.selection import Selection
from dsfn.billing.service import parts_of
from dsfn.billing.usage import STATUSES, Usage

CHANGE_US = 1_790_000_500_000_000
BOOK = RateBook.of(
    RateCard(
        devices={"cpu": Rate(11_500_001, pico_per_request=200_000)},
        default=Rate(777_777_777, basis="held+restore", increment_us=1_000),
    ),
    RateCard(
        devices={"cpu": Rate(23_000_003)},
        default=Rate(1_555_555_553, basis="busy"),
        effective_from_us=CHANGE_US,
        billed=frozenset({"succeeded"}),
    ),
)
MakeUsage = Callable[..., Usage]


def call(make_usage: MakeUsage, number: int, step: str, item: str = "", **changes: Any) -> Usage:
    """A row of a run's call as the engine makes it."""
    return make_usage(
        invocation_id=f"i-{number}",
        caller=f"run:r/{step}/{item}",
        workflow="album",
        run="r",
        step=step,
        started_at_us=changes.pop("started_at_us", 1_790_000_000_000_000 + number),
        **changes,
    )


def test_attempts_and_items_are_told_apart(make_usage: MakeUsage) -> None:
    rows = [
        call(make_usage, 1, "classify", "0", status="failed", error="HandlerRaised"),
        call(make_usage, 2, "classify", "1"),
        call(make_usage, 3, "classify", "0", status="platform", error="ReplicaLost"),
        call(make_usage, 4, "classify", "0", function="spare"),
        call(make_usage, 5, "bind", device_class="L4", devices=2, busy_us=5, held_us=7),
    ]
    classify, bind = run_cost(rows, BOOK)
    assert (classify.step, classify.items, classify.retries) == ("classify", 2, 2)
    assert [(key.attempt, key.status, key.function) for key, _ in classify.attempts] == [
        (1, "failed", "echo"),
        (1, "succeeded", "echo"),
        (2, "platform", "echo"),
        (3, "succeeded", "spare"),
    ]
    lost = classify.attempts[2][1]
    assert (lost.requests, lost.held_us, lost.quantity_us, lost.amount_nano) == (1, 200, 0, 0)
    assert [(key.attempt, key.device_class) for key, _ in bind.attempts] == [(1, "L4")]
    assert bind.cost == Cost(1, 1_000, 10, 14, 0, 778)
    assert classify.cost.held_us == 800


def test_a_call_over_a_change_of_rates_is_priced_by_both(make_usage: MakeUsage) -> None:
    row = call(make_usage, 1, "s", started_at_us=CHANGE_US - 600, busy_us=100, held_us=1_000)
    (step,) = run_cost([row], BOOK)
    exact = 600 * 11_500_001 + 200_000 * 10**6 + 400 * 23_000_003
    assert abs(step.cost.amount_nano - Fraction(exact, 10**9)) <= 1
    assert (step.cost.requests, step.cost.held_us, step.cost.busy_us) == (1, 1_000, 100)


_rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["0", "1", "2"]),
        st.sampled_from(["echo", "spare"]),
        st.sampled_from(["cpu", "L4"]),
        st.sampled_from(STATUSES),
        st.integers(CHANGE_US - 5_000, CHANGE_US + 5_000),
        st.integers(0, 4_000),
        st.integers(0, 4_000),
        st.integers(0, 900),
        st.integers(1, 3),
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(drawn=_rows)
def test_a_run_costs_what_the_bill_says_of_it(
    make_usage: MakeUsage, drawn: list[tuple[Any, ...]]
) -> None:
    """The bill of all usage there is, by run and by step: the same calls, times and amounts."""
    rows = sorted(
        (
            call(
                make_usage,
                number,
                step,
                item,
                function=function,
                device_class=device_class,
                status=status,
                started_at_us=start_us,
                busy_us=min(busy_us, held_us),
                held_us=held_us,
                restore_us=restore_us,
                devices=devices,
            )
            for number, (
                step, item, function, device_class, status,
                start_us, busy_us, held_us, restore_us, devices,
            ) in enumerate(drawn)
        ),
        key=lambda row: row.started_at_us,
    )  # fmt: skip
    stretches = [
        Priced(
            segment.card,
            [
                part
                for row in rows
                for part in parts_of(
                    row, BOOK, segment.card, Selection(segment.start_us, segment.end_us)
                )
            ],
        )
        for segment in BOOK.segments(0, 2 * CHANGE_US)
    ]
    found = run_cost(rows, BOOK)
    total = sum((step.cost for step in found), Cost())
    assert total.requests == len(rows)
    assert total.held_us == sum(row.held_us * row.devices for row in rows)
    assert total.busy_us == sum(row.busy_us * row.devices for row in rows)
    assert total.restore_us == sum(row.restore_us * row.devices for row in rows)
    by_run = [line for stretch in stretches for line in usage_lines(stretch, "run")]
    assert total.quantity_us == sum(line.quantity_us for line in by_run)
    assert total.amount_nano == sum(line.amount_nano for line in by_run)
    by_step = [line for stretch in stretches for line in usage_lines(stretch, "step")]
    for step in found:
        lines = [line for line in by_step if line.step == step.step]
        assert step.cost.quantity_us == sum(line.quantity_us for line in lines)
        assert step.cost.amount_nano == sum(line.amount_nano for line in lines)


def test_a_run_without_calls_costs_nothing() -> None:
    assert run_cost([], BOOK) == ()


@pytest.mark.parametrize("held_us", [0, 1])
def test_a_call_of_no_time_still_counts(make_usage: MakeUsage, held_us: int) -> None:
    (step,) = run_cost([call(make_usage, 1, "s", busy_us=0, held_us=held_us)], BOOK)
    assert step.cost.requests == 1
