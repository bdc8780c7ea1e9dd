"""How long calls took, counted in little memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

_PRECISION_BITS = 6


class Latencies:
    """Counts durations in buckets, each at most 1/64 of its durations wide: those below 128 us are
    exact. After the log-linear buckets of HdrHistogram (http://hdrhistogram.org)."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, duration_us: int) -> None:
        """One call took this long."""
        shift = max(0, duration_us.bit_length() - _PRECISION_BITS - 1)
        self.counts[(shift << _PRECISION_BITS) + (duration_us >> shift)] += 1

    def update(self, others: Iterable[Latencies]) -> None:
        """All calls of others, too."""
        for other in others:
            self.counts.update(other.counts)

    def replace(self, old: Latencies, new: Latencies) -> None:
        """As if some of the calls had taken other times."""
        self.counts.subtract(old.counts)
        self.counts.update(new.counts)

    def later(self, delay_us: int) -> Latencies:
        """The same calls, had each taken this much longer."""
        moved = Latencies()
        for bucket, count in self.counts.items():
            once = Latencies()
            once.add(_middle_us(bucket) + delay_us)
            (index,) = once.counts
            moved.counts[index] += count
        return moved

    def percentile(self, percent: int) -> int | None:
        """The time within which so many of the calls ended, None without any."""
        rank = -(-self.counts.total() * percent // 100)
        for bucket in sorted(self.counts):
            rank -= self.counts[bucket]
            if rank <= 0 < self.counts[bucket]:
                return _middle_us(bucket)
        return None


def _middle_us(bucket: int) -> int:
    shift = max(0, (bucket >> _PRECISION_BITS) - 1)
    low_us = (bucket - (shift << _PRECISION_BITS)) << shift
    return low_us + ((1 << shift) >> 1)
