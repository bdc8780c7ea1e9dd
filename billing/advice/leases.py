"""The holdings of devices by one function's replicas, followed through its rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dsfn.billing.advice.gaps import Gaps
from dsfn.billing.advice.warmth import Warmth
from dsfn.billing.interval import Interval
from dsfn.billing.usage import Usage

# The rows of a lease lie end to end, but for what is cut off below a microsecond.
_CONTIGUOUS_US = 1_000
# A replica that goes this much sooner than its time goes for want of calls.
PARKS_EARLY_US = 100_000


@dataclass(frozen=True, slots=True)
class _Parked:
    """A replica that gave its device back for want of calls, having rested for `idle_us`."""

    idle_us: int
    at_us: int
    price: int
    waited_us: int


@dataclass(slots=True)
class _Lease:
    """A lease that is not over. `until_us`: the end of its rows, for good if it is `closed`.
    `fresh`: nothing has used it since it was brought back. `gap`: what was before that, None where
    nothing was. `waited_us`: how long the call waited that was the last to use it."""

    price: int
    until_us: int
    fresh: bool
    closed: bool = False
    alone: bool = False
    gap: _Parked | None = None
    waited_us: int = 0
    idle_us: int = 0
    idle_end_us: int = 0
    restored: bool = False
    restore_us: int = 0

    def is_over(self, now_us: int) -> bool:
        """Whether none of its rows lies at `now_us` or after, given those that began before."""
        return self.until_us <= now_us - (0 if self.closed else _CONTIGUOUS_US)


class Leases:
    """Takes the rows of one function in the order of their starts and tells `gaps` and `warmth`
    what they mean. `price` is of an interval's devices, in atto-currency a microsecond."""

    def __init__(self, gaps: Gaps, warmth: Warmth, park_after_us: int, start_us: int) -> None:
        self._gaps = gaps
        self._warmth = warmth
        self._parks_from_us = park_after_us - PARKS_EARLY_US
        self._start_us = start_us
        self._open: dict[str, _Lease] = {}
        self._parked: list[_Parked] = []
        self._look_at_us = 0
        self._price = 0
        self.restore_us = {"restore": [0, 0], "start": [0, 0]}

    def interval(self, row: Interval, price: int) -> None:
        """A row of a device's time that is no call's."""
        begins = row.kind != "idle" and row.started_at_us > self._start_us
        lease = self._lease(row.lease, row.started_at_us, price, begins)
        end_us = row.started_at_us + row.duration_us
        lease.until_us = max(lease.until_us, end_us)
        lease.closed = lease.closed or row.closes
        if row.kind == "restore":
            self._restore(lease, row)
        elif row.kind == "idle":
            if lease.fresh:
                self._first_use(lease, None)
            if row.started_at_us > lease.idle_end_us + _CONTIGUOUS_US:
                self._settle(lease, None)
            lease.idle_us += row.duration_us
            lease.idle_end_us = end_us

    def call(self, row: Usage) -> None:
        """A call's row. One of no lease that is known tells how long it took, no more."""
        lease = self._open.get(row.lease)
        if lease is not None:
            lease.until_us = max(lease.until_us, row.started_at_us + row.held_us)
        if lease is not None and lease.fresh:
            self._first_use(lease, (row.restore_us, row.held_us))
            lease.waited_us = row.restore_us
            return
        if lease is not None and lease.idle_us:
            self._settle(lease, row.held_us)
        else:
            self._gaps.busy(row.restore_us + row.held_us)
        if lease is not None:
            lease.waited_us = 0

    def finish(self, end_us: int) -> None:
        """That was all, up to `end_us`."""
        self._close(end_us + _CONTIGUOUS_US)
        for parked in self._parked:
            # Nobody came: it would have rested until now, had it not been parked.
            rested_us = parked.idle_us + max(0, end_us - parked.at_us)
            self._gaps.ended(rested_us, parked.price, parked.waited_us)
        for lease in self._open.values():
            if lease.fresh:
                self._gaps.began(lease.restore_us * lease.price, None)
            self._gaps.ended(lease.idle_us, lease.price, lease.waited_us)
        self._warmth.finish(end_us, self._price)

    def mean_restore_us(self) -> int | None:
        """What it takes to bring a replica back, None where none was."""
        for kind in ("restore", "start"):
            total_us, count = self.restore_us[kind]
            if count:
                return total_us // count
        return None

    def _lease(self, id_: str, at_us: int, price: int, begins: bool) -> _Lease:
        if at_us >= self._look_at_us:
            self._close(at_us)
        lease = self._open.get(id_)
        if lease is None:
            lease = self._open[id_] = _Lease(price, at_us, fresh=begins)
            lease.alone = self._warmth.came(at_us, price)
            self._price = price
            self._look_at_us = min(self._look_at_us, at_us)
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
        kind = self.restore_us.get(row.reason)
        if kind is not None:
            kind[0] += row.duration_us
            kind[1] += not lease.restored
            lease.restored = True

    def _first_use(self, lease: _Lease, call: tuple[int, int] | None) -> None:
        """What brought a replica back has come to rest, or the call that it was for has."""
        lease.fresh = False
        restore_atto = lease.restore_us * lease.price
        if lease.alone and call is not None:
            self._warmth.cold(*call)
        gap = lease.gap
        if gap is None:
            self._gaps.began(restore_atto, call)
        else:
            self._gaps.parked(gap.idle_us, gap.price, restore_atto, call, gap.waited_us)

    def _settle(self, lease: _Lease, held_us: int | None) -> None:
        """The rest of a replica is over, because of a call if `held_us` is not None."""
        if lease.idle_us:
            self._gaps.warm(lease.idle_us, lease.price, held_us, lease.waited_us)
            lease.idle_us = lease.waited_us = 0

    def _close(self, now_us: int) -> None:
        """Lets go of the leases of which nothing lies at `now_us` or after."""
        over = [id_ for id_, lease in self._open.items() if lease.is_over(now_us)]
        for lease in sorted((self._open.pop(id_) for id_ in over), key=lambda x: x.until_us):
            self._end(lease)
        self._look_at_us = min((x.until_us for x in self._open.values()), default=now_us)

    def _end(self, lease: _Lease) -> None:
        self._warmth.went(lease.until_us)
        if lease.fresh:
            # It never served: another follows, with the same gap before it.
            self._gaps.began(lease.restore_us * lease.price, None)
            if lease.gap is not None:
                failed_us = lease.until_us - lease.gap.at_us
                rested_us = lease.gap.idle_us + failed_us
                self._parked.append(replace(lease.gap, idle_us=rested_us, at_us=lease.until_us))
            return
        if lease.idle_us >= self._parks_from_us:
            self._parked.append(
                _Parked(lease.idle_us, lease.until_us, lease.price, lease.waited_us)
            )
        else:
            self._gaps.ended(lease.idle_us, lease.price, lease.waited_us)
