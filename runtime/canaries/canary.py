"""A revision on trial: on which terms, what came of its calls so far, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from dsfn.billing.entry import Entry
from dsfn.functions.errors import InvalidInput
from dsfn.functions.values import dataclass

MAX_PERCENT = 49
_MAX_DAYS = 30
MAX_PROMOTE_AFTER_S = _MAX_DAYS * 24 * 3600
MAX_P99_US = MAX_PROMOTE_AFTER_S * 1_000_000
# Of fewer calls nobody can say what share fails, and so none is promoted before.
MIN_CALLS = 20
# So many it takes for one in a hundred to be one.
_MIN_CALLS_P99 = 100
_RAN = ("succeeded", "failed", "platform")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a revision is tried on. `percent`: of the calls that it gets; less than half, so that
    the one before stays the function's own. `max_p99_us`: of the time that a replica works on a
    call, None for no limit. Raises `InvalidInput`."""

    percent: int
    promote_after_s: float = 600.0
    max_error_percent: float = 1.0
    max_p99_us: int | None = None

    def __post_init__(self) -> None:
        _require(
            1 <= self.percent <= MAX_PERCENT,
            "canary",
            f"A canary gets from 1 to {MAX_PERCENT} percent of the calls.",
        )
        _require(
            0 <= self.promote_after_s <= MAX_PROMOTE_AFTER_S,
            "promote_after_s",
            f"A canary is promoted after 0 s to {_MAX_DAYS} days.",
        )
        _require(
            0 <= self.max_error_percent <= 100,
            "max_error_percent",
            "The share of calls that may fail is from 0 to 100 percent.",
        )
        _require(
            self.max_p99_us is None or 0 < self.max_p99_us <= MAX_P99_US,
            "max_p99_us",
            f"The longest time that a call may take is more than 0, at most {_MAX_DAYS} days.",
        )


class CanaryState(StrEnum):
    """`stopped`: somebody has shared the calls out otherwise, or deployed again."""

    RUNNING = "running"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Canary:
    """`baseline`: the revision that goes on if this one is no good. `seen`: up to where the
    ledger's chains have been looked at. `calls` ran to their end, of these `failed` failed and
    `slow` took longer than `max_p99_us`. `reason`: why it ended, "" while it runs."""

    function: str
    revision: str
    baseline: str
    terms: Terms
    started_at_us: int
    seen: Mapping[int, int]
    calls: int = 0
    failed: int = 0
    slow: int = 0
    state: CanaryState = CanaryState.RUNNING
    ended_at_us: int | None = None
    reason: str = ""

    @property
    def traffic(self) -> dict[str, int]:
        """How the calls are shared while it runs."""
        percent = self.terms.percent
        return {self.revision: percent, self.baseline: 100 - percent}

    def counting(self, entry: Entry) -> Canary:
        """With a row of the ledger, if that is of a call of this revision that ran."""
        if entry.revision != self.revision or entry.reverses or entry.status not in _RAN:
            return self
        limit_us = self.terms.max_p99_us
        return replace(
            self,
            calls=self.calls + 1,
            failed=self.failed + (entry.status != "succeeded"),
            slow=self.slow + (limit_us is not None and entry.busy_us > limit_us),
        )

    def ended(self, state: CanaryState, reason: str, now_us: int) -> Canary:
        """Over, for a reason."""
        return replace(self, state=state, reason=reason, ended_at_us=now_us)

    def judged(self, now_us: int) -> Canary:
        """Ended, where it is to end now. It is taken back as soon as too many calls have failed or
        taken too long, be it of the fewest that count."""
        terms = self.terms
        most = terms.max_error_percent / 100 * max(self.calls, MIN_CALLS)
        if self.failed > most:
            words = f"{self.failed} of {self.calls} calls failed"
            return self.ended(CanaryState.ROLLED_BACK, words, now_us)
        if self.slow > max(self.calls, _MIN_CALLS_P99) / 100:
            words = f"{self.slow} of {self.calls} calls took longer than {terms.max_p99_us} us"
            return self.ended(CanaryState.ROLLED_BACK, words, now_us)
        is_time = now_us - self.started_at_us >= terms.promote_after_s * 1_000_000
        if is_time and self.calls >= MIN_CALLS:
            words = f"{self.failed} of {self.calls} calls failed"
            return self.ended(CanaryState.PROMOTED, words, now_us)
        return self


def _require(holds: bool, field: str, sentence: str) -> None:
    if not holds:
        raise InvalidInput(sentence, field=field)
