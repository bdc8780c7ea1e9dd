"""How much something was used of late: a count of uses that fades."""

from __future__ import annotations

from dsfn.functions.values import dataclass

HALF_LIFE_S = 300.0


@dataclass(eq=False, slots=True)
class Heat:
    """Each use adds one; what was added halves every `half_life_s`. `value` is as of `at_s`; times
    are of one clock, that does not go back far."""

    value: float = 0.0
    at_s: float = 0.0
    half_life_s: float = HALF_LIFE_S

    def use(self, now_s: float) -> None:
        """It was used."""
        self.value, self.at_s = self.read(now_s) + 1, now_s

    def read(self, now_s: float) -> float:
        """The uses that still count."""
        return float(self.value * 0.5 ** (max(0.0, now_s - self.at_s) / self.half_life_s))


def worth(heat: float, size_bytes: int, reload_s: float) -> float:
    """What keeping a byte is worth: expected seconds of reloading that it saves."""
    return heat * reload_s / max(1, size_bytes)
