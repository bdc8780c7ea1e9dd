"""When a function had no replica, and which calls suffered from it."""

from __future__ import annotations

from dsfn.billing.advice.latencies import Latencies


class Warmth:
    """What one replica that is always there would have added and spared.

    It adds the time in which no replica held a device, and spares the restores of replicas that
    came when there was none; the time of those is then idle time.
    """

    def __init__(self) -> None:
        self.added_atto = 0
        self.spared_calls = 0
        self.as_was, self.as_warm = Latencies(), Latencies()
        self._held = 0
        self._nobody_since_us: int | None = None

    def came(self, at_us: int, price: int) -> bool:
        """A replica holds a device from now on; whether it is the only one."""
        alone = self._held == 0
        self._held += 1
        if alone and self._nobody_since_us is not None:
            self.added_atto += max(0, at_us - self._nobody_since_us) * price
        return alone

    def went(self, at_us: int) -> None:
        """A replica holds no device any more."""
        self._held -= 1
        if self._held == 0:
            self._nobody_since_us = at_us

    def cold(self, waited_us: int, held_us: int) -> None:
        """A call waited for the only replica to be brought back, and then held it."""
        self.spared_calls += 1
        self.as_was.add(waited_us + held_us)
        self.as_warm.add(held_us)

    def finish(self, end_us: int, price: int) -> None:
        """That was all, up to `end_us`."""
        if self._held == 0 and self._nobody_since_us is not None:
            self.added_atto += max(0, end_us - self._nobody_since_us) * price
