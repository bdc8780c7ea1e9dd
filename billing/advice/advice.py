"""One thing that would have cost less, or answered sooner, and what to change for it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from dsfn.billing.money import ATTO_PER_NANO, half_even
from dsfn.functions.values import dataclass

Kind = Literal["park-after", "keep-warm", "batch", "precision"]
Confidence = Literal["low", "medium", "high"]
# Calls from which on a month is taken to say something, and much.
MEDIUM_CALLS = 100
HIGH_CALLS = 1_000
_WHOLE_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class Effect:
    """What calls took: half of them at most `p50_us`, 99 % at most `p99_us`; None without calls,
    and where they share replicas. `cold_calls` waited for a replica to be brought back."""

    cold_calls: int
    p50_us: int | None
    p99_us: int | None


@dataclass(frozen=True, slots=True)
class Advice:
    """A change of a function's options. Amounts are all of the function's device time in the
    stretch, by the list, in nano-currency; a negative saving is what shorter waits cost.

    `change`: what to write into the function's decorator. `before`, `after`: how calls were, and
    would have been. `assumption`: what is taken for granted beside what was measured.
    """

    function: str
    kind: Kind
    change: str
    cost_nano: int
    changed_nano: int
    before: Effect
    after: Effect
    calls: int
    assumption: str

    @property
    def saving_nano(self) -> int:
        """What would have been saved."""
        return self.cost_nano - self.changed_nano

    @property
    def saving_points(self) -> int:
        """The same in basis points of the cost."""
        if not self.cost_nano:
            return 0
        return half_even(self.saving_nano * _WHOLE_POINTS, self.cost_nano)

    @property
    def confidence(self) -> Confidence:
        """How much the number of calls says."""
        if self.calls < MEDIUM_CALLS:
            return "low"
        return "medium" if self.calls < HIGH_CALLS else "high"

    def to_document(self) -> dict[str, Any]:
        """This as a JSON-able document."""
        return {
            "function": self.function,
            "kind": self.kind,
            "change": self.change,
            "cost_nano": self.cost_nano,
            "changed_nano": self.changed_nano,
            "saving_nano": self.saving_nano,
            "saving_basis_points": self.saving_points,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "calls": self.calls,
            "confidence": self.confidence,
            "assumption": self.assumption,
        }


def nano(atto: int) -> int:
    """An exact amount in nano-currency."""
    return half_even(atto, ATTO_PER_NANO)


def seconds_text(time_us: int) -> str:
    """A time as decorators take it: "90s", "0.25s"."""
    whole, rest = divmod(time_us, 1_000_000)
    return f"{whole}.{rest:06d}".rstrip("0") + "s" if rest else f"{whole}s"
