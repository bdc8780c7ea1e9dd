"""Calls of one function that could have been run together."""

from __future__ import annotations

from collections import Counter

from dsfn.billing.advice.latencies import Latencies

# As many items as a batch may have.
MAX_CALLS = 10_000


class Batches:
    """Replays calls on one replica that runs calls in batches, as workers do: while a batch runs,
    the calls that arrive wait, and all of them are the next one.

    A batch is taken to last as long as all its calls computed (`busy_us`), one after the other,
    and for the longest time that one of them held its replica beside (`held_us` less `busy_us`),
    which they share. A model that computes several items at once is faster than that.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.beside_atto = 0
        self.sizes: Counter[int] = Counter()
        self.latencies = Latencies()
        self._end_us = 0
        self._waiting: list[int] = []
        self._waiting_busy_us = 0
        self._waiting_beside_us = 0

    def call(self, arrived_us: int, busy_us: int, held_us: int, price: int) -> None:
        """The next call, by the time at which it could have begun. `price`: of its device, in
        atto-currency a microsecond."""
        beside_us = held_us - busy_us
        self.calls += 1
        self.beside_atto += beside_us * price
        while self._waiting and arrived_us >= self._end_us:
            self._run()
        if not self._waiting and arrived_us >= self._end_us:
            self._end_us = arrived_us + held_us
            self.sizes[1] += 1
            self.latencies.add(held_us)
            return
        if len(self._waiting) == MAX_CALLS:
            self._run()
        self._waiting.append(arrived_us)
        self._waiting_busy_us += busy_us
        self._waiting_beside_us = max(self._waiting_beside_us, beside_us)

    def finish(self) -> None:
        """That were all calls."""
        if self._waiting:
            self._run()

    def batches(self, max_batch: int) -> int:
        """How many batches of at most so many calls there would have been."""
        return sum(count * -(-size // max_batch) for size, count in self.sizes.items())

    def saved_atto(self, max_batch: int) -> int:
        """What calls that run together share, of the time for which they held their devices."""
        if not self.calls:
            return 0
        return self.beside_atto * (self.calls - self.batches(max_batch)) // self.calls

    def _run(self) -> None:
        """All that wait are run."""
        self._end_us += self._waiting_busy_us + self._waiting_beside_us
        self.sizes[len(self._waiting)] += 1
        for arrived_us in self._waiting:
            self.latencies.add(self._end_us - arrived_us)
        self._waiting.clear()
        self._waiting_busy_us = self._waiting_beside_us = 0
