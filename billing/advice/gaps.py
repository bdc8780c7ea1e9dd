"""The times in which a function's replicas had nothing to do, and what parking made of them.

A replay with another time until parking needs nothing but these gaps. A call goes to the replica
that was used last. If that one is parked, so are all others that are free, for they have rested
longer; and which of several parked ones comes back makes no difference to any later call. So the
gaps between the uses of a replica are the same however soon it is parked, and each of them costs

    itself               where it is not longer than the time until parking
    that time, a restore  where it is

in device time. Whole functions of millions of calls are counted in this way by a few numbers for
each candidate.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from dsfn.billing.advice.latencies import Latencies


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a time until parking comes to: idle and restore time at its price in atto-currency, how
    often a replica had to be brought back, and how many calls waited for that."""

    idle_atto: int
    restore_atto: int
    restores: int
    cold_calls: int
    latencies: Latencies


@dataclass(slots=True)
class _Bucket:
    """Gaps that are longer than one candidate and not longer than the next.

    `price`: of all gaps together, in atto-currency a microsecond; `warm_price`: of those after
    which nothing was brought back; `ended_*`: of gaps that ended with their lease for another
    reason than that nobody called.
    """

    gaps: int = 0
    idle_atto: int = 0
    price: int = 0
    warm_price: int = 0
    warm_calls: int = 0
    cold_calls: int = 0
    restore_atto: int = 0
    ended_atto: int = 0
    ended_price: int = 0
    after_warm: Latencies = field(default_factory=Latencies)
    after_cold: Latencies = field(default_factory=Latencies)
    after_cold_held: Latencies = field(default_factory=Latencies)


class Gaps:
    """The gaps of one function. `candidates_us`: ascending times until parking, of which alone it
    can be asked."""

    def __init__(self, candidates_us: Sequence[int]) -> None:
        self.candidates_us = tuple(candidates_us)
        self._buckets = [_Bucket() for _ in range(len(candidates_us) + 1)]
        # What is as it is whatever the time until parking.
        self._steady = Latencies()
        self._fixed_cold, self._fixed_cold_held = Latencies(), Latencies()
        self._fixed_restores = 0
        self._fixed_cold_calls = 0
        self._fixed_restore_atto = 0

    def busy(self, latency_us: int) -> None:
        """A call found its replica at work, or was one of several."""
        self._steady.add(latency_us)

    def warm(self, gap_us: int, price: int, held_us: int | None) -> None:
        """A replica rested for so long and was not parked; the call that came then, if any, held
        it for `held_us`. `price`: atto-currency a microsecond, as everywhere here."""
        bucket = self._bucket(gap_us, price)
        bucket.warm_price += price
        if held_us is not None:
            bucket.warm_calls += 1
            bucket.after_warm.add(held_us)

    def parked(
        self, gap_us: int, price: int, restore_atto: int, call: tuple[int, int] | None
    ) -> None:
        """A replica rested, was parked, and was brought back at this cost so long after its last
        use; `call`: for how long the call that wanted it waited for that, and then held it."""
        bucket = self._bucket(gap_us, price)
        bucket.restore_atto += restore_atto
        if call is not None:
            waited_us, held_us = call
            bucket.cold_calls += 1
            bucket.after_cold.add(waited_us + held_us)
            bucket.after_cold_held.add(held_us)

    def ended(self, idle_us: int, price: int) -> None:
        """A replica rested so long and then went for another reason: it would have, anyway."""
        bucket = self._buckets[bisect_left(self.candidates_us, idle_us)]
        bucket.ended_atto += idle_us * price
        bucket.ended_price += price

    def began(self, restore_atto: int, call: tuple[int, int] | None) -> None:
        """A replica came that none had been before."""
        self._fixed_restores += 1
        self._fixed_restore_atto += restore_atto
        if call is not None:
            self._fixed_cold_calls += 1
            self._fixed_cold.add(sum(call))
            self._fixed_cold_held.add(call[1])

    def outcome(self, park_after_us: int, restore_us: int) -> Outcome:
        """What a candidate comes to. `restore_us`: what it takes to bring a replica back where
        none was brought back in fact."""
        at = self.candidates_us.index(park_after_us)
        stays, parks = self._buckets[: at + 1], self._buckets[at + 1 :]
        latencies = Latencies()
        latencies.update([self._steady, self._fixed_cold, *(b.after_warm for b in stays)])
        latencies.update(bucket.after_cold_held for bucket in stays)
        latencies.update(bucket.after_cold for bucket in parks)
        latencies.update(bucket.after_warm.later(restore_us) for bucket in parks)
        parks_price = sum(bucket.price + bucket.ended_price for bucket in parks)
        return Outcome(
            idle_atto=sum(bucket.idle_atto + bucket.ended_atto for bucket in stays)
            + parks_price * park_after_us,
            restore_atto=self._fixed_restore_atto
            + sum(b.restore_atto + b.warm_price * restore_us for b in parks),
            restores=self._fixed_restores + sum(bucket.gaps for bucket in parks),
            cold_calls=self._fixed_cold_calls
            + sum(bucket.warm_calls + bucket.cold_calls for bucket in parks),
            latencies=latencies,
        )

    def latencies(self, restore_us: int | None = None) -> Latencies:
        """What the calls took in fact, or would have, had each cold one waited this long."""
        found = Latencies()
        found.update([self._steady, *(bucket.after_warm for bucket in self._buckets)])
        if restore_us is None:
            found.update([self._fixed_cold, *(bucket.after_cold for bucket in self._buckets)])
        else:
            held = Latencies()
            held.update([self._fixed_cold_held, *(b.after_cold_held for b in self._buckets)])
            found.update([held.later(restore_us)])
        return found

    def cold_calls(self) -> int:
        """How many calls waited for a replica to be brought back in fact."""
        return self._fixed_cold_calls + sum(bucket.cold_calls for bucket in self._buckets)

    def _bucket(self, gap_us: int, price: int) -> _Bucket:
        bucket = self._buckets[bisect_left(self.candidates_us, gap_us)]
        bucket.gaps += 1
        bucket.idle_atto += gap_us * price
        bucket.price += price
        return bucket
