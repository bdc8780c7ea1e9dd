"""The holdings of devices by one function's replicas, followed through its rows."""

from __future__ import annotations

from dataclasses import replace

from dsfn.billing.advice.gaps import Gaps
from dsfn.billing.advice.warmth import Warmth
from dsfn.billing.interval import Interval
from dsfn.billing.usage import Usage
from dsfn.functions.values import dataclass

# A lease that nobody closed is over when nothing has followed on its rows for so long.
SILENT_US = 1_000
# A call that begins so soon after its replica was brought back had waited for that.
WAITED_US = 50_000
# A replica that goes this much sooner than its time goes for want of calls.
PARKS_EARLY_US = 100_000


@dataclass(frozen=True, slots=True)
class _Parked:
    """A replica that gave its device back for want of calls, having rested for `idle_us`.
    `waited_us`: how long the call had waited that was the last to use it."""

    idle_us: int
    at_us: int
    price: int
    waited_us: int


@dataclass(slots=True)
class _Lease:
    """A lease that is not over. `end_us`: the end of its rows, for good if it is `closed`;
    `busy_until_us`: of what used it. `fresh`: no call has. `gap`: what was before it, None where
    nothing was. `waited_us`: how long the call waited that was the last to use it."""

    price: int
    end_us: int
    busy_until_us: int
    fresh: bool
    closed: bool = False
    alone: bool = False
    gap: _Parked | None = None
    waited_us: int = 0
    restored: bool = False
    restore_us: int = 0

    @property
    def rest_us(self) -> int:
        """How long it has had nothing to do, at its end."""
        return max(0, self.end_us - self.busy_until_us)

    def is_over(self, now_us: int) -> bool:
        """Whether none of its rows lies at `now_us` or after, given those that began before."""
        return self.end_us <= now_us - (0 if self.closed else SILENT_US)


class Leases:
    """Takes the rows of one function in the order of their starts and tells `gaps` and `warmth`
    what they mean. `price` is of an interval's devices, in atto-currency a microsecond.

    Rows of kind "idle" say how long a replica rested, not when: that is between its calls. Calls
    that share a replica have shares of its time that add up to it, so that the sum of the shares
    of those that came so far says until when it was busy at least.
    """

    def __init__(self, gaps: Gaps, warmth: Warmth, park_after_us: int, start_us: int) -> None:
        self._gaps = gaps
        self._warmth = warmth
        self._parks_from_us = park_after_us - PARKS_EARLY_US
        self._start_us = start_us
        self._open: dict[str, _Lease] = {}
        self._parked: list[_Parked] = []
        self._look_at_us = 0
        self._price = 0
        # By the reason of a restore: how long all took, and how many these were.
        self._restores = {"restore": [0, 0], "start": [0, 0]}

    def interval(self, row: Interval, price: int) -> None:
        """A row of a device's time that is no call's."""
        lease = self._lease(row, price)
        end_us = row.started_at_us + row.duration_us
        lease.end_us = max(lease.end_us, end_us)
        lease.closed = lease.closed or row.closes
        if row.kind == "restore":
            lease.busy_until_us = max(lease.busy_until_us, end_us)
            self._restore(lease, row)

    def call(self, row: Usage) -> None:
        """A call's row. One of no lease that is known tells how long it took, no more."""
        lease = self._open.get(row.lease)
        if lease is None:
            self._gaps.busy(row.restore_us + row.held_us)
            return
        gap_us = row.started_at_us - lease.busy_until_us
        if lease.fresh and gap_us <= WAITED_US:
            self._first_use(lease, row.held_us)
            self._gaps.ended(max(0, gap_us), lease.price)
            lease.waited_us = lease.restore_us
        else:
            if lease.fresh:
                self._first_use(lease, None)
            self._next_use(lease, gap_us, row.held_us)
        lease.busy_until_us = max(lease.busy_until_us, row.started_at_us) + row.held_us
        lease.end_us = max(lease.end_us, lease.busy_until_us)

    def finish(self, end_us: int) -> None:
        """That was all, up to `end_us`."""
        self._close(end_us + SILENT_US)
        for parked in self._parked:
            # Nobody came: it would have rested until now, had it not been parked.
            rested_us = parked.idle_us + max(0, end_us - parked.at_us)
            self._gaps.ended(rested_us, parked.price, parked.waited_us)
        for lease in self._open.values():
            if lease.fresh:
                self._first_use(lease, None)
            self._gaps.ended(lease.rest_us, lease.price, lease.waited_us)
        self._warmth.finish(end_us, self._price)

    def mean_restore_us(self) -> int | None:
        """What it takes to bring a replica back, None where none was."""
        for total_us, count in self._restores.values():
            if count:
                return total_us // count
        return None

    def _lease(self, row: Interval, price: int) -> _Lease:
        at_us = row.started_at_us
        if at_us >= self._look_at_us:
            self._close(at_us)
        lease = self._open.get(row.lease)
        if lease is None:
            begins = row.kind != "idle" and at_us > self._start_us
            lease = self._open[row.lease] = _Lease(price, at_us, at_us, fresh=begins)
            lease.alone = self._warmth.came(at_us, price)
            self._price = price
            self._look_at_us = min(self._look_at_us, at_us + 1)
            if begins and self._parked:
                last = self._parked.pop()
                rested_us = last.idle_us + at_us - last.at_us
                lease.gap = replace(last, idle_us=rested_us, at_us=at_us)
        return lease

    def _restore(self, lease: _Lease, row: Interval) -> None:
        if lease.fresh:
            lease.restore_us += row.duration_us
        else:
            self._gaps.began(row.duration_us * lease.price, None)
        kind = self._restores.get(row.reason)
        if kind is not None:
            kind[0] += row.duration_us
            kind[1] += not lease.restored
            lease.restored = True

    def _first_use(self, lease: _Lease, held_us: int | None) -> None:
        """What was brought back serves the call that it was for, or, without `held_us`, rests."""
        lease.fresh = False
        call = None if held_us is None else (lease.restore_us, held_us)
        if lease.alone and call is not None:
            self._warmth.cold(*call)
        gap, restore_atto = lease.gap, lease.restore_us * lease.price
        if gap is None:
            self._gaps.began(restore_atto, call)
        else:
            self._gaps.parked(gap.idle_us, gap.price, restore_atto, call, gap.waited_us)

    def _next_use(self, lease: _Lease, gap_us: int, held_us: int) -> None:
        if gap_us > 0:
            self._gaps.warm(gap_us, lease.price, held_us, lease.waited_us)
        else:
            self._gaps.busy(held_us)
        lease.waited_us = 0

    def _close(self, now_us: int) -> None:
        """Lets go of the leases of which nothing lies at `now_us` or after."""
        over = [id_ for id_, lease in self._open.items() if lease.is_over(now_us)]
        for lease in sorted((self._open.pop(id_) for id_ in over), key=lambda x: x.end_us):
            self._end(lease)
        self._look_at_us = min((x.end_us for x in self._open.values()), default=now_us)

    def _end(self, lease: _Lease) -> None:
        self._warmth.went(lease.end_us)
        is_parked = lease.rest_us >= self._parks_from_us
        if lease.fresh and not is_parked:
            # It never served: another follows, with the same gap before it.
            self._gaps.began(lease.restore_us * lease.price, None)
            self._gaps.ended(lease.rest_us, lease.price)
            if lease.gap is not None:
                rested_us = lease.gap.idle_us + lease.end_us - lease.gap.at_us
                self._parked.append(replace(lease.gap, idle_us=rested_us, at_us=lease.end_us))
            return
        if lease.fresh:
            self._first_use(lease, None)
        if is_parked:
            self._parked.append(_Parked(lease.rest_us, lease.end_us, lease.price, lease.waited_us))
        else:
            self._gaps.ended(lease.rest_us, lease.price, lease.waited_us)
