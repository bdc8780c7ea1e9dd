"""How many replicas a revision should have, after Knative's autoscaler.

Concurrency (calls running and waiting) is averaged over a stable window and over
a panic window a tenth as long. Desired = average / target, where target is
`TARGET_UTILISATION` of what a replica takes, but at least one call: whoever makes one call after
the other needs one replica, and no second copy of a model's weights. When the panic window asks for
`PANIC_THRESHOLD` times what there is, it rules, and nothing shrinks, until a
stable window has passed without that.
https://knative.dev/docs/serving/autoscaling/kpa-specific/
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import field

from dsfn.functions.values import dataclass

TICK_S = 1.0
STABLE_WINDOW_S = 60.0
PANIC_WINDOW_S = 6.0
PANIC_THRESHOLD = 2.0
TARGET_UTILISATION = 0.7


@dataclass(slots=True)
class ConcurrencyMeter:
    """The time-weighted average of a number that goes up and down."""

    now_ns: int
    value: int = 0
    _since_ns: int = field(init=False)
    _integral: int = 0

    def __post_init__(self) -> None:
        self._since_ns = self.now_ns

    def add(self, change: int, now_ns: int) -> None:
        """The number changed now."""
        self._integral += self.value * (now_ns - self.now_ns)
        self.now_ns = now_ns
        self.value += change

    def take_average(self, now_ns: int) -> float:
        """The average since the last time this was asked."""
        self.add(0, now_ns)
        elapsed = now_ns - self._since_ns
        average = self._integral / elapsed if elapsed else float(self.value)
        self._since_ns, self._integral = now_ns, 0
        return average


@dataclass(slots=True)
class Scaler:
    """Turns one average a tick into a wanted number of replicas."""

    concurrency: int
    min_replicas: int
    max_replicas: int
    _averages: deque[float] = field(
        default_factory=lambda: deque(maxlen=int(STABLE_WINDOW_S / TICK_S))
    )
    _panic_ticks_left: int = 0
    _panic_peak: int = 0

    def tick(self, average: float, ready: int) -> int:
        """Takes the average concurrency of the last tick; returns the wanted number."""
        self._averages.append(average)
        stable = self._wanted(len(self._averages))
        panic = self._wanted(int(PANIC_WINDOW_S / TICK_S))
        if panic >= PANIC_THRESHOLD * max(1, ready):
            self._panic_ticks_left = int(STABLE_WINDOW_S / TICK_S)
        if self._panic_ticks_left > 0:
            self._panic_ticks_left -= 1
            self._panic_peak = max(self._panic_peak, panic, stable)
            return self._clip(self._panic_peak)
        self._panic_peak = 0
        return self._clip(stable)

    def _wanted(self, ticks: int) -> int:
        recent = list(self._averages)[-ticks:]
        average = sum(recent) / len(recent)
        target = max(1.0, self.concurrency * TARGET_UTILISATION)
        return math.ceil(average / target - 1e-9)

    def _clip(self, wanted: int) -> int:
        return min(max(wanted, self.min_replicas), self.max_replicas)
