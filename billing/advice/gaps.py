"""The times in which a function's replicas had nothing to do, and what parking made of them.

A replay with another time until parking needs nothing but these gaps. A call goes to the replica
that was used last. If that one is parked, so are all others that are free, for they have rested
longer; and which of several parked ones comes back makes no difference to any later call. So the
gaps between the uses of a replica are the same however soon it is parked, and each of them costs

    itself               where it is not longer than the time until parking
    that time, a restore  where it is

in device time. Whole functions of millions of calls are counted in this way by a few numbers for
each candidate.

One thing does depend on it: a call that did not wait for a replica would have been over sooner, and
the gap after it would have been as much longer. For times that are longer than the function's own
all gaps after such calls count as that much longer; for the others no gap counts as shorter. Both
make a replay promise less than it might.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import field

from dsfn.billing.advice.latencies import Latencies
from dsfn.functions.values import dataclass


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


class _Family:
    """Some gaps, in buckets."""

    def __init__(self, candidates_us: Sequence[int]) -> None:
        self._candidates_us = candidates_us
        self.buckets = [_Bucket() for _ in range(len(candidates_us) + 1)]

    def bucket(self, gap_us: int, price: int) -> _Bucket:
        """That of a gap, which is in it now."""
        bucket = self.buckets[bisect_left(self._candidates_us, gap_us)]
        bucket.gaps += 1
        bucket.idle_atto += gap_us * price
        bucket.price += price
        return bucket

    def ended(self, idle_us: int, price: int) -> None:
        """See `Gaps`."""
        bucket = self.buckets[bisect_left(self._candidates_us, idle_us)]
        bucket.ended_atto += idle_us * price
        bucket.ended_price += price


class Gaps:
    """The gaps of one function, which parks replicas after `park_after_us`. `candidates_us`:
    ascending times until parking, of which alone it can be asked. Prices are in atto-currency a
    microsecond. `sooner_us`: how much sooner the use before a gap would have been over, had no call
    waited for a replica."""

    def __init__(self, candidates_us: Sequence[int], park_after_us: int) -> None:
        self.candidates_us = tuple(candidates_us)
        self._park_after_us = park_after_us
        # Gaps after calls that waited are in the second, as they were, and in the third, longer.
        self._plain, self._as_was, self._as_warm = (_Family(self.candidates_us) for _ in range(3))
        # What is as it is whatever the time until parking.
        self._steady = Latencies()
        self._fixed_cold, self._fixed_cold_held = Latencies(), Latencies()
        self._fixed_restores = 0
        self._fixed_cold_calls = 0
        self._fixed_restore_atto = 0

    def busy(self, latency_us: int) -> None:
        """A call found its replica at work, or was one of several."""
        self._steady.add(latency_us)

    def warm(self, gap_us: int, price: int, held_us: int | None, sooner_us: int = 0) -> None:
        """A replica rested for so long and was not parked; the call that came then, if any, held
        it for `held_us`."""
        for family, longer_us in self._families(sooner_us):
            bucket = family.bucket(gap_us + longer_us, price)
            bucket.warm_price += price
            if held_us is not None:
                bucket.warm_calls += 1
                bucket.after_warm.add(held_us)

    def parked(
        self,
        gap_us: int,
        price: int,
        restore_atto: int,
        call: tuple[int, int] | None,
        sooner_us: int = 0,
    ) -> None:
        """A replica rested, was parked, and was brought back at this cost so long after its last
        use; `call`: for how long the call that wanted it waited for that, and then held it."""
        for family, longer_us in self._families(sooner_us):
            bucket = family.bucket(gap_us + longer_us, price)
            bucket.restore_atto += restore_atto
            if call is not None:
                waited_us, held_us = call
                bucket.cold_calls += 1
                bucket.after_cold.add(waited_us + held_us)
                bucket.after_cold_held.add(held_us)

    def ended(self, idle_us: int, price: int, sooner_us: int = 0) -> None:
        """A replica rested so long and then went for another reason: it would have, anyway."""
        for family, longer_us in self._families(sooner_us):
            family.ended(idle_us + longer_us, price)

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
        at = self.candidates_us.index(park_after_us) + 1
        after_cold = self._as_warm if park_after_us > self._park_after_us else self._as_was
        families = (self._plain, after_cold)
        stays = [bucket for family in families for bucket in family.buckets[:at]]
        parks = [bucket for family in families for bucket in family.buckets[at:]]
        latencies = Latencies()
        latencies.update([self._steady, self._fixed_cold])
        latencies.update(each for b in stays for each in (b.after_warm, b.after_cold_held))
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
        found, buckets = Latencies(), self._in_fact()
        found.update([self._steady, *(bucket.after_warm for bucket in buckets)])
        if restore_us is None:
            found.update([self._fixed_cold, *(bucket.after_cold for bucket in buckets)])
        else:
            held = Latencies()
            held.update([self._fixed_cold_held, *(bucket.after_cold_held for bucket in buckets)])
            found.update([held.later(restore_us)])
        return found

    def cold_calls(self) -> int:
        """How many calls waited for a replica to be brought back in fact."""
        return self._fixed_cold_calls + sum(bucket.cold_calls for bucket in self._in_fact())

    def _families(self, sooner_us: int) -> tuple[tuple[_Family, int], ...]:
        """Where a gap goes, and how much longer it is there."""
        if sooner_us:
            return (self._as_was, 0), (self._as_warm, sooner_us)
        return ((self._plain, 0),)

    def _in_fact(self) -> list[_Bucket]:
        return [*self._plain.buckets, *self._as_was.buckets]
