"""Advice for months whose answers can be worked out by hand."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, cast

import pytest
from simulated_node import END_US, SECOND_US, START_US, Arrival, SimulatedNode

from dsfn.billing.advice import Advice, Deployed, Lowering, Report, advise
from dsfn.billing.advice.batches import MAX_CALLS, Batches
from dsfn.billing.interval import Interval
from dsfn.billing.ledger import Ledger
from dsfn.billing.rates import Rate, RateBook, RateCard
from dsfn.billing.usage import Usage

# 0.001 a second: a microsecond costs a nano-unit.
BOOK = RateBook.of(RateCard(devices={"cpu": Rate(10**9)}, default=Rate(2 * 10**9)))
DAY_S = 86_400
PARK_US, REMOVE_US = 60 * SECOND_US, 600 * SECOND_US


@dataclass(frozen=True, slots=True)
class Rows:
    """A ledger as far as advice reads it."""

    calls: list[Usage] = field(default_factory=list)
    spans: list[Interval] = field(default_factory=list)

    def between(self, start_us: int, end_us: int) -> Iterator[Usage]:
        return (row for row in self.calls if start_us <= row.started_at_us < end_us)

    def intervals(self, start_us: int, end_us: int) -> Iterator[Interval]:
        return (row for row in self.spans if start_us <= row.started_at_us < end_us)


def report(
    *nodes: SimulatedNode, end_us: int = END_US, book: RateBook = BOOK, **options: Any
) -> Report:
    """The advice for functions of these options, each of which ran on a node of its own."""
    rows = Rows(
        sorted((c for node in nodes for c in node.calls), key=lambda c: c.started_at_us),
        sorted((i for node in nodes for i in node.intervals), key=lambda i: i.started_at_us),
    )
    known = [replace(Deployed(n.function, n.park_after_us, REMOVE_US), **options) for n in nodes]
    return advise(cast(Ledger, rows), book, known, START_US, end_us)


def every(seconds: int, times: int, held_us: int = SECOND_US) -> list[Arrival]:
    return [Arrival(START_US + (1 + n * seconds) * SECOND_US, held_us) for n in range(times)]


def only(found: Report, kind: str) -> Advice | None:
    return next((each for each in found.advice if each.kind == kind), None)


def test_parking_sooner_saves_the_idle_time_that_nobody_used() -> None:
    """A call every two minutes: each pays for 60 s of rest, and finds its replica parked."""
    node = SimulatedNode(PARK_US, SECOND_US).run(every(120, 720))
    found = report(node)
    (cost,) = found.functions
    assert (cost.calls, cost.effect.cold_calls) == (720, 720)
    assert cost.requests_nano == 720 * 1_000_000
    assert cost.restore_nano == 720 * 1_000_000
    assert abs(cost.idle_nano - 720 * 60_000_000) <= 1_000
    advice = only(found, "park-after")
    assert advice is not None
    assert advice.change == 'park_after="1s"'
    assert abs(advice.saving_nano - 720 * 59_000_000) <= 1_000
    assert advice.cost_nano == cost.cost_nano
    assert advice.saving_points == round(10_000 * 59 / 62)
    assert (advice.after.cold_calls, advice.confidence) == (720, "medium")
    assert advice.before == advice.after
    assert found.saving_nano == advice.saving_nano


def test_parking_sooner_is_told_apart_from_what_is_cheapest_but_slow() -> None:
    """Twenty calls, 15 s apart, then an hour of nothing: 20 s are enough for the former."""
    arrivals = [
        Arrival(START_US + (1 + 3600 * n + 15 * k) * SECOND_US, SECOND_US)
        for n in range(200)
        for k in range(20)
    ]
    node = SimulatedNode(600 * SECOND_US, SECOND_US).run(arrivals)
    sooner, cheapest = sorted(
        (each for each in report(node).advice if each.kind == "park-after"),
        key=lambda each: each.saving_nano,
    )
    assert (sooner.change, sooner.after.cold_calls) == ('park_after="20s"', 200)
    assert sooner.saving_nano == 200 * 580 * 1_000_000
    assert (cheapest.change, cheapest.after.cold_calls) == ('park_after="1s"', 4000)
    # Each of 19 gaps, of 14 s but the first, costs a second of rest and one of restore instead.
    assert cheapest.saving_nano == 200 * (599 + 19 * (14 - 2) - 1) * 1_000_000
    assert cheapest.after.p50_us == pytest.approx(2 * SECOND_US, rel=1 / 64)


def test_parking_later_has_fewer_calls_wait_for_a_price() -> None:
    """A call every 100 s: after 60 s it waits; 120 s would have been enough."""
    node = SimulatedNode(PARK_US, SECOND_US).run(every(100, 500))
    later = next(
        each
        for each in report(node, remove_after_us=PARK_US).advice
        if each.kind == "park-after" and each.saving_nano < 0
    )
    assert later.change == 'park_after="120s", remove_after="120s"'
    assert later.after.cold_calls == 1
    # 99 s of rest instead of 60 s and a restore, 499 times; the last rests 120 s.
    assert -later.saving_nano == (499 * (99 - 61) + 60) * 1_000_000
    rare = report(SimulatedNode(PARK_US, SECOND_US).run(every(1000, 50)))
    assert all(each.saving_nano > 0 for each in rare.advice)


def test_a_replica_kept_costs_the_time_in_which_there_was_none() -> None:
    """A call every 100 s, parked after 60: there is none for 39 s of each round, less a restore."""
    node = SimulatedNode(PARK_US, SECOND_US).run(every(100, 500))
    end_us = START_US + (1 + 500 * 100) * SECOND_US
    found = report(node, end_us=end_us)
    (cost,) = found.functions
    assert cost.keep_warm_nano == pytest.approx(500 * 38 * 1_000_000, abs=10_000)
    assert cost.keep_warm_spared == 500
    advice = only(found, "keep-warm")
    assert advice is not None
    assert (advice.change, advice.after.cold_calls) == ("min_replicas=1", 0)
    assert advice.saving_nano == -cost.keep_warm_nano
    assert advice.before.p50_us == pytest.approx(2 * SECOND_US, rel=1 / 64)
    assert advice.after.p50_us == pytest.approx(SECOND_US, rel=1 / 64)
    savings = [each.saving_nano for each in found.advice]
    assert savings == sorted(savings, reverse=True)


def test_a_replica_kept_that_costs_many_times_the_function_is_not_advised() -> None:
    node = SimulatedNode(PARK_US, SECOND_US).run(every(3600, 24))
    found = report(node)
    assert only(found, "keep-warm") is None
    assert found.functions[0].keep_warm_spared == 24


def test_letting_a_replica_go_saves_what_it_rested() -> None:
    node = SimulatedNode(END_US, SECOND_US).run(every(3600, 24 * 29))
    node.intervals = [
        replace(row, reason="keep-warm", tenant="default") if row.kind == "idle" else row
        for row in node.intervals
    ]
    advice = only(report(node, park_after_us=PARK_US, min_replicas=1), "keep-warm")
    assert advice is not None
    assert (advice.change, advice.after.cold_calls) == ("min_replicas=0", 24 * 29)
    rested_s = 3600 - 1 - 60 - 1  # an hour less the call, the rest that stays, and a restore
    assert advice.saving_nano == pytest.approx(24 * 29 * rested_s * 1_000_000, rel=0.05)
    assert only(report(node, park_after_us=PARK_US, min_replicas=1), "park-after") is None


def test_calls_that_came_while_another_ran_share_what_a_batch_shares() -> None:
    """Four calls at a time, each 10 ms of work and 90 ms beside: one runs, three are a batch."""
    arrivals = [
        Arrival(START_US + (1 + n) * SECOND_US + k * 1_000, 100_000)
        for n in range(1000)
        for k in range(4)
    ]
    node = SimulatedNode(PARK_US, 1_000, busy_share=(1, 10)).run(arrivals)
    advice = only(report(node), "batch")
    assert advice is not None
    assert advice.change == "max_batch=4"
    # Two of four calls share the 90 ms of another.
    assert advice.saving_nano == pytest.approx(2 * 1000 * 90_000, rel=0.01)
    # The batch of three begins after 100 ms and takes 30 + 90 ms; it waited for since 1 to 3 ms.
    assert advice.after.p99_us == pytest.approx(219_000, rel=1 / 32)
    assert only(report(node, max_batch=8, concurrency=16), "batch") is None


def test_a_batch_that_makes_calls_wait_too_long_is_not_advised() -> None:
    arrivals = [
        Arrival(START_US + (1 + n) * SECOND_US + k, 500_000) for n in range(50) for k in range(20)
    ]
    node = SimulatedNode(PARK_US, 1_000, busy_share=(9, 10)).run(arrivals)
    assert only(report(node), "batch") is None


def test_a_batch_of_a_replay_has_at_most_as_many_calls_as_one_may_have() -> None:
    batches = Batches()
    for number in range(MAX_CALLS + 2):
        batches.call(number, 1, 10**9, price=1)
    batches.finish()
    assert dict(batches.sizes) == {1: 2, MAX_CALLS: 1}
    assert batches.batches(MAX_CALLS) == 3
    assert batches.batches(1) == MAX_CALLS + 2


def test_a_saving_of_less_than_a_hundredth_is_not_advised() -> None:
    """Of 10 s of calls a millisecond less of restore is nothing; a second is."""
    lowering = Lowering("int8", 1_000, 500, measured=True)
    little = SimulatedNode(SECOND_US, 2_000).run(every(60, 10, held_us=10 * SECOND_US))
    assert only(report(little, lowering=lowering), "precision") is None
    much = SimulatedNode(SECOND_US, 2 * SECOND_US).run(every(60, 10, held_us=10 * SECOND_US))
    assert only(report(much, lowering=lowering), "precision") is not None


def test_fewer_bytes_come_back_sooner_and_may_need_fewer_devices() -> None:
    node = SimulatedNode(PARK_US, 8 * SECOND_US, devices=2).run(every(120, 100))
    lowering = Lowering("int8", 1_000, 500, measured=True)
    advice = only(report(node, lowering=lowering, devices=2), "precision")
    assert advice is not None
    assert advice.change == 'precision="int8", gpu=1'
    # Of 8 s of restore and 60 s of rest on two devices half a restore and the rest stay, on one.
    saved_s = 100 * ((8 + 60) * 2 - (4 + 60))
    assert advice.saving_nano == pytest.approx(saved_s * 1_000_000, rel=0.001)
    assert advice.after.p50_us == pytest.approx(5 * SECOND_US, rel=1 / 32)
    alone = only(report(node, lowering=lowering, devices=1), "precision")
    assert alone is not None
    assert alone.saving_nano == pytest.approx(100 * 8 * 1_000_000, rel=0.001)
    assert only(report(node, lowering=replace(lowering, bytes_after=1_000)), "precision") is None


def test_prices_are_those_of_the_time_and_the_device() -> None:
    change_us = START_US + 10 * DAY_S * SECOND_US
    card = RateCard(devices={"cpu": Rate(3 * 10**9)}, effective_from_us=change_us)
    book = RateBook.of(BOOK.cards[0], card)
    one = SimulatedNode(PARK_US, SECOND_US).run([Arrival(START_US + SECOND_US, SECOND_US)])
    two = SimulatedNode(PARK_US, SECOND_US, function="late", device_class="L4", devices=2)
    two.run([Arrival(change_us + SECOND_US, SECOND_US)])
    echo, late = report(one, two, book=book).functions
    assert (echo.requests_nano, late.requests_nano) == (1_000_000, 2 * 1_000_000)
    three = SimulatedNode(PARK_US, SECOND_US).run([Arrival(change_us + SECOND_US, SECOND_US)])
    assert report(three, book=book).functions[0].requests_nano == 3_000_000


def test_where_nothing_was_used_or_all_is_well_nothing_is_advised() -> None:
    assert report().advice == ()
    assert report(SimulatedNode(PARK_US, 1)).functions == ()
    busy = SimulatedNode(0, 1).run([Arrival(START_US + 1, 1000 * SECOND_US)])
    found = report(busy)
    assert (len(found.functions), found.advice, found.saving_nano) == (1, (), 0)


def test_rows_of_functions_that_are_gone_are_left_alone() -> None:
    node = SimulatedNode(PARK_US, SECOND_US).run(every(120, 10))
    rows = Rows(node.calls, node.intervals)
    other = Deployed("other", PARK_US, REMOVE_US)
    assert advise(cast(Ledger, rows), BOOK, [other], START_US, END_US).functions == ()


def test_the_document_is_json_and_the_same_each_time() -> None:
    node = SimulatedNode(PARK_US, SECOND_US).run(every(100, 500))
    document = report(node).to_document()
    assert json.loads(json.dumps(document)) == document == report(node).to_document()
    assert (document["start"], document["end"]) == ("2026-09-01T00:00:00Z", "2026-10-01T00:00:00Z")


@dataclass(frozen=True, slots=True)
class Streamed:
    """Rows that can be read once."""

    calls: Iterator[Any]
    spans: Iterator[Interval]

    def between(self, start_us: int, end_us: int) -> Iterator[Usage]:
        return self.calls

    def intervals(self, start_us: int, end_us: int) -> Iterator[Interval]:
        return self.spans

    def report(self) -> Report:
        known = [Deployed("echo", PARK_US, REMOVE_US)]
        return advise(cast(Ledger, self), BOOK, known, START_US, END_US)


# What is made as fast as it is read. Of a row only these are looked at.
Call = namedtuple(
    "Call", "started_at_us held_us busy_us restore_us lease function device_class devices status"
)


def made(count: int, rests: int) -> Streamed:
    """So many calls of one lease, with so many rests among them."""
    step_us = (END_US - START_US) // (count + 1)
    node = SimulatedNode(END_US, 1).run(every(1, 2))
    rest = next(row for row in node.intervals if row.kind == "idle")
    whole = replace(rest, kind="held", reason="", started_at_us=START_US + 1)
    third_us = step_us // 3
    starts_us = range(START_US + step_us, START_US + (count + 1) * step_us, step_us)
    return Streamed(
        (
            Call(at_us, third_us, 1, 0, rest.lease, "echo", "cpu", 1, "succeeded")
            for at_us in starts_us
        ),
        chain(
            [replace(whole, duration_us=END_US - START_US - 1)],
            (
                replace(rest, started_at_us=at_us + third_us, duration_us=third_us)
                for at_us in starts_us[:: count // rests]
            ),
        ),
    )


def peak_bytes(count: int) -> int:
    tracemalloc.start()
    made(count, count // 2).report()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_more_rows_take_no_more_memory() -> None:
    few, many = peak_bytes(2_000), peak_bytes(20_000)
    assert many < few + 100_000


def test_a_month_of_a_million_rows_takes_seconds() -> None:
    rows = made(900_000, 100_000)
    began_s = time.process_time()
    found = rows.report()
    assert time.process_time() - began_s < 30
    assert found.functions[0].calls == 900_000


def test_of_a_time_that_has_not_begun_there_is_no_advice() -> None:
    found = report(SimulatedNode(PARK_US, SECOND_US), end_us=START_US)
    assert (found.functions, found.advice) == ((), ())
