"""What the attempts of a step have come to, and what follows from one that failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from dsfn.billing.usage import Usage
from dsfn.functions import errors
from dsfn.functions.errors import DsfnError
from dsfn.functions.retrying import MAX_BACKOFF_S
from dsfn.functions.workflow.dag import StepOptions
from dsfn.runtime.events.delivery import (
    MAX_POSTPONED_S,
    RetryPolicy,
)
from dsfn.runtime.waiting import doubled_s

MAX_FREE_CRASHES = 3
_MAX_INVOCATIONS = 100
_FIRST_POSTPONEMENT_S = 0.1
_MAX_POSTPONEMENT_S = 60.0

# The call did not come to run, or it is not to blame for what became of it.
_NOT_SERVED = (errors.Unavailable, errors.StorageFull, errors.CallCancelled)
# Another attempt would come to the same, or must not be made.
_AT_ONCE = (errors.RequestError, errors.RunError)


class Tally(NamedTuple):
    """The attempts of one step for one item so far.

    `attempts` are those that count; `crashes` and `postponed` those that did not. `stood_in`:
    the step has failed for good, and its fallback has taken over. `not_before_us`: when the
    next attempt is due.
    """

    attempts: int = 0
    crashes: int = 0
    postponed: int = 0
    postponed_since_us: int = 0
    stood_in: bool = False
    not_before_us: int | None = None
    started_at_us: int | None = None
    busy_us: int = 0
    held_us: int = 0
    cost_nano: int = 0
    invocations: tuple[str, ...] = ()

    def began(self, now_us: int, invocation: str) -> Tally:
        """An attempt begins."""
        return self._replace(
            started_at_us=self.started_at_us or now_us,
            not_before_us=None,
            invocations=(*self.invocations, invocation)[-_MAX_INVOCATIONS:],
        )

    def used(self, usages: Sequence[Usage], cost_nano: int) -> Tally:
        """An attempt has used this."""
        return self._replace(
            busy_us=self.busy_us + sum(u.busy_us for u in usages),
            held_us=self.held_us + sum(u.held_us for u in usages),
            cost_nano=self.cost_nano + cost_nano,
        )

    def succeeded(self) -> Tally:
        """The last attempt is the one that did it."""
        return self._replace(attempts=self.attempts + 1)


class Verdict(Enum):
    """What follows from a failed attempt. `POSTPONE`: the attempt does not count."""

    RETRY = "retry"
    POSTPONE = "postpone"
    FINAL = "final"


def judge(
    options: StepOptions, tally: Tally, error: DsfnError, now_us: int, random: Callable[[], float]
) -> tuple[Verdict, Tally]:
    """What follows from an attempt that ended with `error`, and the tally with it in.

    `random` gives [0, 1). A fallback has no retries of its own.
    """
    if isinstance(error, _NOT_SERVED):
        return _postponed(tally, error, now_us)
    if isinstance(error, errors.HandlerCrashed) and tally.crashes < MAX_FREE_CRASHES:
        again = tally._replace(crashes=tally.crashes + 1)
        return Verdict.POSTPONE, _due(again, _postponement_s(tally.crashes), now_us)
    counted = tally._replace(attempts=tally.attempts + 1)
    retries = 0 if tally.stood_in else options.retries
    if isinstance(error, _AT_ONCE) or counted.attempts > retries:
        return Verdict.FINAL, counted
    policy = RetryPolicy.of(options)
    delay_us = policy.delay_us(counted.attempts, random)
    return Verdict.RETRY, counted._replace(not_before_us=now_us + delay_us)


def stand_in(tally: Tally) -> Tally:
    """The fallback takes over: what counted against the step does not count against it."""
    return tally._replace(stood_in=True, crashes=0, postponed=0, postponed_since_us=0)


def _postponed(tally: Tally, error: DsfnError, now_us: int) -> tuple[Verdict, Tally]:
    since_us = tally.postponed_since_us or now_us
    if now_us - since_us >= MAX_POSTPONED_S * 1_000_000:
        return Verdict.FINAL, tally
    delay_s = _postponement_s(tally.postponed)
    asked_s = error.fields.get("retry_after_s")
    if isinstance(asked_s, int | float):
        delay_s = min(max(delay_s, float(asked_s)), MAX_BACKOFF_S)
    again = tally._replace(postponed=tally.postponed + 1, postponed_since_us=since_us)
    return Verdict.POSTPONE, _due(again, delay_s, now_us)


def _postponement_s(times: int) -> float:
    return doubled_s(_FIRST_POSTPONEMENT_S, times, _MAX_POSTPONEMENT_S)


def _due(tally: Tally, delay_s: float, now_us: int) -> Tally:
    return tally._replace(not_before_us=now_us + int(delay_s * 1_000_000))
