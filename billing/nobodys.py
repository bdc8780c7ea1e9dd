"""The time of a call that nobody pays for, though a device was held for it."""

from __future__ import annotations

from dsfn.billing.interval import Interval
from dsfn.billing.splitting import at_midnights
from dsfn.billing.usage import Usage


def nobodys(row: Usage) -> list[Interval]:
    """What takes the place of a call's row that the ledger refuses for good: its lease's time is
    accounted for, as lost to a fault. Cut at midnight, as rows of devices are."""
    parts = at_midnights(row.started_at_us, row.held_us)
    return [
        Interval(
            kind="idle",
            id=f"{row.lease}/{row.invocation_id}.{number}",
            lease=row.lease,
            device=row.device or row.device_class,
            devices=row.devices,
            device_class=row.device_class,
            function=row.function,
            revision=row.revision,
            tenant="",
            started_at_us=at_us,
            duration_us=duration_us,
            reason="fault",
        )
        for number, (at_us, duration_us) in enumerate(parts)
        if duration_us and row.lease
    ]
