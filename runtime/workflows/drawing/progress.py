"""How far a step of a run is, in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_NANO_DIGITS = 9
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


def duration(time_us: int) -> str:
    """ "850 µs", "12.3 ms", "4.1 s", "2 min 5 s", "3 h 12 min"."""
    if time_us < 1000:
        return f"{time_us} µs"
    if time_us < 999_950:
        return f"{time_us / 1000:.1f} ms"
    if time_us < 99_950_000:
        return f"{time_us / 1e6:.1f} s"
    minutes, seconds = divmod(round(time_us / 1e6), 60)
    if minutes < 100:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(round(time_us / 60e6), 60)
    return f"{hours} h {minutes} min"


def money(nano: int) -> str:
    """An amount without zeros that say nothing: 2_340_000 -> "0.00234"."""
    whole, rest = divmod(abs(nano), 10**_NANO_DIGITS)
    decimals = f"{rest:09d}".rstrip("0")
    sign = "-" if nano < 0 else ""
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"
