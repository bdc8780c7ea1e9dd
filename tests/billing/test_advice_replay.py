"""Replaying a month with other times until parking, against a node that had them."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_node import END_US, SECOND_US, START_US, Arrival, SimulatedNode

from dsfn.billing.advice.deployed import Deployed
from dsfn.billing.advice.history import PARK_AFTER_S, History
from dsfn.billing.advice.reading import read
from dsfn.billing.rates import Rate, RateBook, RateCard

# A microsecond of a device costs one atto-unit: amounts are microseconds.
BOOK = RateBook.of(RateCard(devices={"cpu": Rate(1)}, default=Rate(1)))
TICK_US = 100_000
CANDIDATES_US = [seconds * SECOND_US for seconds in PARK_AFTER_S]

_gaps_us = st.one_of(
    st.integers(0, 2 * SECOND_US),
    st.integers(0, 200 * SECOND_US),
    st.integers(0, 3 * 3600 * SECOND_US),
)
_months = st.lists(st.tuples(_gaps_us, st.integers(1, 20 * SECOND_US)), max_size=60).map(
    lambda calls: [
        Arrival(START_US + SECOND_US + at_us, held_us)
        for at_us, (_, held_us) in zip(
            itertools.accumulate(gap_us for gap_us, _ in calls), calls, strict=True
        )
    ]
)


def history_of(node: SimulatedNode, park_after_us: int) -> History:
    deployed = Deployed(node.function, park_after_us, max(park_after_us, 600 * SECOND_US))
    found = read(node.calls, node.intervals, BOOK, [deployed], START_US, END_US)
    return found[node.function]


@settings(max_examples=300, deadline=None)
@given(_months, st.sampled_from([1, 10, 60, 600]), st.integers(1, 5 * SECOND_US))
def test_with_the_options_as_they_are_a_replay_gives_what_was(
    arrivals: list[Arrival], park_after_s: int, restore_us: int
) -> None:
    park_after_us = park_after_s * SECOND_US
    node = SimulatedNode(park_after_us, restore_us, TICK_US).run(arrivals)
    history = history_of(node, park_after_us)
    outcome = history.gaps.outcome(park_after_us, history.restore_us or 0)
    assert history.idle_atto == node.idle_us()
    assert history.restore_atto == node.restores() * restore_us
    # Whoever is parked a tick late rests a tick longer; one who is called in that tick is not.
    leases = node.restores()
    late = sum(row.duration_us > park_after_us for row in node.intervals if row.kind == "idle")
    assert 0 <= node.idle_us() - outcome.idle_atto <= TICK_US * (leases + late)
    assert leases <= outcome.restores <= leases + late
    assert node.cold_calls() == history.gaps.cold_calls() <= outcome.cold_calls
    assert outcome.cold_calls <= node.cold_calls() + late


@settings(max_examples=300, deadline=None)
@given(_months, st.sampled_from([0, 1, 10, 60, 600]), st.sampled_from(CANDIDATES_US))
def test_another_time_until_parking_gives_what_a_node_with_it_gives(
    arrivals: list[Arrival], park_after_s: int, other_us: int
) -> None:
    """Restores take no time here, so that no call begins at another time."""
    park_after_us = park_after_s * SECOND_US
    there = history_of(SimulatedNode(park_after_us, 0).run(arrivals), park_after_us)
    other = SimulatedNode(other_us, 0).run(arrivals)
    outcome = there.gaps.outcome(other_us, 0)
    assert outcome.idle_atto == other.idle_us()
    assert outcome.restores == other.restores()


@settings(max_examples=300, deadline=None)
@given(_months, st.integers(1, 100 * SECOND_US), st.sampled_from(CANDIDATES_US))
def test_a_replay_promises_no_more_than_a_node_would_have_kept(
    arrivals: list[Arrival], restore_us: int, other_us: int
) -> None:
    """Calls that wait for a replica put off those after them; here no two run at once."""
    apart = [
        one
        for one, next_ in itertools.pairwise(arrivals)
        if next_.at_us - one.at_us > one.held_us + restore_us
    ]
    here = SimulatedNode(60 * SECOND_US, restore_us).run(apart)
    there = SimulatedNode(other_us, restore_us).run(apart)
    history = history_of(here, 60 * SECOND_US)
    outcome = history.gaps.outcome(other_us, history.restore_us or 0)
    kept_us = there.idle_us() + there.restores() * restore_us
    assert outcome.idle_atto + outcome.restore_atto >= kept_us
    assert outcome.cold_calls >= there.cold_calls()


def test_a_replica_that_went_for_another_reason_goes_in_the_replay_too() -> None:
    """The node stopped 30 s after the call: nothing could have kept the replica."""
    node = SimulatedNode(60 * SECOND_US, SECOND_US)
    node.run([Arrival(START_US + 1, 10)], end_us=START_US + 30 * SECOND_US)
    node.run([Arrival(START_US + 7200 * SECOND_US, 10)])
    history = history_of(node, 60 * SECOND_US)
    for park_after_s, idle_s in ((1, 2), (60, 29 + 60), (3600, 29 + 3600)):
        outcome = history.gaps.outcome(park_after_s * SECOND_US, SECOND_US)
        assert outcome.restores == 2
        assert abs(outcome.idle_atto - idle_s * SECOND_US) <= SECOND_US


def test_calls_that_share_a_replica_are_no_rest_of_it() -> None:
    """Two calls run from 0 s to 10 s, of which each has its share; the third comes at 15 s."""
    node = SimulatedNode(60 * SECOND_US, SECOND_US).run([Arrival(START_US + SECOND_US, SECOND_US)])
    (template,) = node.calls
    at_us = template.started_at_us
    node.calls = [
        replace(
            template,
            invocation_id=str(number),
            started_at_us=at_us + seconds * SECOND_US,
            held_us=share_s * SECOND_US,
            restore_us=0,
        )
        for number, (seconds, share_s) in enumerate([(0, 6), (2, 4), (15, 1)])
    ]
    held = next(row for row in node.intervals if row.kind == "held")
    node.intervals = [
        replace(row, duration_us=(1 + 16 + 60) * SECOND_US) if row is held else row
        for row in node.intervals
        if row.kind != "idle"
    ]
    history = history_of(node, 60 * SECOND_US)
    assert history.gaps.outcome(10 * SECOND_US, 1).idle_atto == (5 + 10) * SECOND_US
    assert history.gaps.outcome(2 * SECOND_US, 1).idle_atto == (2 + 2) * SECOND_US
