"""What follows from failed attempts, one by one."""

from __future__ import annotations

from itertools import pairwise

from dsfn.functions import errors
from dsfn.functions.workflow.dag import StepOptions
from dsfn.runtime.events.delivery import MAX_POSTPONED_S
from dsfn.runtime.workflows.tally import Tally, Verdict, judge, stand_in

NOW_US = 1_700_000_000_000_000


def test_a_step_is_not_postponed_for_ever() -> None:
    tally, now_us, waits = Tally(), NOW_US, []
    while True:
        verdict, tally = judge(StepOptions(), tally, errors.QueueFull("full"), now_us, lambda: 0.0)
        if verdict is Verdict.FINAL:
            break
        assert verdict is Verdict.POSTPONE and tally.not_before_us is not None
        waits.append(tally.not_before_us - now_us)
        now_us = tally.not_before_us
    assert MAX_POSTPONED_S * 10**6 <= now_us - NOW_US < (MAX_POSTPONED_S + 60) * 10**6
    assert waits[0] == 100_000 and max(waits) == 60_000_000
    assert all(a <= b for a, b in pairwise(waits))


def test_a_postponement_lasts_as_long_as_the_error_asks_for() -> None:
    busy = errors.QueueFull("full", retry_after_s=7)
    _, tally = judge(StepOptions(), Tally(), busy, NOW_US, lambda: 0.0)
    assert tally.not_before_us == NOW_US + 7_000_000


def test_retries_wait_longer_each_time_less_a_part_at_random() -> None:
    options = StepOptions(retries=3, backoff_delay_s=1.0)
    for draw, factor in ((lambda: 0.0, 1.0), (lambda: 0.999_999, 0.5)):
        tally, waits = Tally(), []
        for _ in range(3):
            raised = errors.HandlerRaised("no")
            verdict, tally = judge(options, tally, raised, NOW_US, draw)
            assert verdict is Verdict.RETRY and tally.not_before_us is not None
            waits.append(round((tally.not_before_us - NOW_US) / 1_000_000, 3))
        assert waits == [1 * factor, 2 * factor, 4 * factor]
    linear = StepOptions(retries=3, backoff_delay_s=1.0, backoff_policy="linear")
    _, third = judge(linear, Tally(attempts=2), errors.HandlerRaised("no"), NOW_US, lambda: 0.0)
    assert third.not_before_us == NOW_US + 3_000_000


def test_a_fallback_has_one_attempt() -> None:
    options = StepOptions(retries=5)
    raised = errors.HandlerRaised("no")
    verdict, _ = judge(options, stand_in(Tally(attempts=2)), raised, NOW_US, lambda: 0.0)
    assert verdict is Verdict.FINAL


def test_of_many_attempts_the_last_are_remembered() -> None:
    tally = Tally()
    for number in range(250):
        tally = tally.began(NOW_US + number, str(number))
    assert tally.invocations == tuple(str(number) for number in range(150, 250))
    assert tally.started_at_us == NOW_US
