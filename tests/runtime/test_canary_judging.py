"""When a canary is promoted, and when it is taken back."""

from __future__ import annotations

import pytest

from dsfn.functions.errors import InvalidInput
from dsfn.runtime.canaries.canary import Canary, CanaryState, Terms

START_US = 1_000_000
IN_TIME_US = START_US + 30_000_000
LATE_US = START_US + 61_000_000
TERMS = Terms(10, promote_after_s=60, max_error_percent=5, max_p99_us=1000)


def judged(calls: int, failed: int, slow: int, now_us: int = LATE_US) -> CanaryState:
    canary = Canary("f", "f-2", "f-1", TERMS, START_US, {}, calls, failed, slow)
    return canary.judged(now_us).state


@pytest.mark.parametrize(
    ("calls", "failed", "slow", "now_us", "state"),
    [
        (100, 0, 0, IN_TIME_US, CanaryState.RUNNING),
        (100, 0, 0, LATE_US, CanaryState.PROMOTED),
        (100, 5, 1, LATE_US, CanaryState.PROMOTED),
        (100, 6, 0, LATE_US, CanaryState.ROLLED_BACK),
        (100, 6, 0, IN_TIME_US, CanaryState.ROLLED_BACK),
        (100, 0, 2, IN_TIME_US, CanaryState.ROLLED_BACK),
        (19, 0, 0, LATE_US, CanaryState.RUNNING),
        (1, 1, 0, IN_TIME_US, CanaryState.RUNNING),
        (2, 2, 0, IN_TIME_US, CanaryState.ROLLED_BACK),
        (50, 0, 1, LATE_US, CanaryState.PROMOTED),
        (0, 0, 0, LATE_US, CanaryState.RUNNING),
    ],
)
def test_a_canary_ends_when_its_calls_say_so(
    calls: int, failed: int, slow: int, now_us: int, state: CanaryState
) -> None:
    assert judged(calls, failed, slow, now_us) is state


@pytest.mark.parametrize(
    "terms",
    [
        {"percent": 0},
        {"percent": 50},
        {"percent": 10, "promote_after_s": -1.0},
        {"percent": 10, "promote_after_s": 31 * 24 * 3600.0},
        {"percent": 10, "max_error_percent": 101.0},
        {"percent": 10, "max_p99_us": 0},
        {"percent": 10, "max_p99_us": 10**18},
    ],
)
def test_terms_that_make_no_sense_are_refused(terms: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        Terms(**terms)  # type: ignore[arg-type]
