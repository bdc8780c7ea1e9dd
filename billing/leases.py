"""Leases that nobody closed: the node that held them was killed."""

from __future__ import annotations

from dsfn.billing.entry import Entry
from dsfn.billing.interval import Interval, IntervalKind


def closing_of(first: Entry, balance: int) -> tuple[Interval, ...]:
    """What closes a lease that was left open.

    `first`: one of its rows; `balance`: of its account. What its calls, restores and idle time
    came to is what it held. Where more was held than they came to, the rest was lost to a fault.
    """
    lost_us = max(0, balance) // first.devices
    closing = _interval(first, "held", "closed", max(0, -balance) // first.devices)
    return (_interval(first, "idle", "lost", lost_us), closing) if lost_us else (closing,)


def _interval(first: Entry, kind: IntervalKind, name: str, duration_us: int) -> Interval:
    return Interval(
        kind=kind,
        id=f"{first.lease}/{name}",
        lease=first.lease,
        device=first.device or first.device_class,
        devices=first.devices,
        device_class=first.device_class,
        function=first.function,
        revision=first.revision,
        tenant="",
        started_at_us=first.started_at_us,
        duration_us=duration_us,
        reason="fault",
        closes=kind == "held",
    )
