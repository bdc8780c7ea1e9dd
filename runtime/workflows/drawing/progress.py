"""How far a step of a run is, in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from dsfn.functions.values import dataclass
from dsfn.runtime.workflows.amounts import duration, money

_ALIKE = ("succeeded", "skipped")


@dataclass(frozen=True, slots=True)
class Progress:
    """A step over all items that it runs for. `states` counts those in each state; `wall_us` is
    from its first start to its last end, None before it began; `retried` and `cached` count the
    items that needed more than one attempt, and those whose result was there already."""

    states: Mapping[str, int] = field(default_factory=dict)
    wall_us: int | None = None
    held_us: int = 0
    cost_nano: int = 0
    retried: int = 0
    cached: int = 0

    @property
    def state(self) -> str:
        """One word for all items."""
        found = {state for state, count in self.states.items() if count}
        if not found:
            return "waiting"
        if len(found) == 1:
            return found.pop()
        if found == set(_ALIKE):
            return "succeeded"
        # What went wrong is what a person looks for; then what is still to come.
        for state in ("failed", "cancelled"):
            if state in found:
                return state
        return "running"

    @property
    def count(self) -> str:
        """ "12 of 40" while not all items are through, "40" after that; "" for one item."""
        total = sum(self.states.values())
        through = self.states.get("succeeded", 0) + self.states.get("skipped", 0)
        if total <= 1:
            return ""
        return str(total) if through == total else f"{through} of {total}"

    def words(self, currency: str) -> tuple[str, ...]:
        """Count, time and cost, as far as there is something to say."""
        found = [self.count] if self.count else []
        if self.wall_us:
            found.append(duration(self.wall_us))
        if self.cost_nano:
            found.append(f"{money(self.cost_nano)} {currency}")
        if self.retried:
            found.append(f"{self.retried} retried" if self.count else "retried")
        if self.cached:
            found.append(f"{self.cached} cached" if self.count else "cached")
        return tuple(found)
