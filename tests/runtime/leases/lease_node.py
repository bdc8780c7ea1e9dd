"""A lease under a clock that a test moves, and what its rows must come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from dsfn.billing.interval import Interval
from dsfn.billing.periods import DAY_US
from dsfn.billing.splitting import at_boundaries
from dsfn.billing.usage import Status, Usage
from dsfn.runtime.leases.lease import Held, Slot
from dsfn.runtime.leases.leases import Leases
from dsfn.runtime.worker.messages import Gpu


@dataclass(eq=False)
class HandClock:
    """Its two readings move together, unless somebody sets the wall clock."""

    wall_us: int = 0
    mono_ns: int = 987_654_321

    def now_us(self) -> int:
        return self.wall_us

    def monotonic_ns(self) -> int:
        return self.mono_ns

    def move(self, nanoseconds: int) -> None:
        self.mono_ns += nanoseconds
        self.wall_us += nanoseconds // 1000


@dataclass(eq=False)
class Node:
    """Leases without replicas, and a ledger that is a list."""

    clock: HandClock = field(default_factory=HandClock)
    calls: list[Usage] = field(default_factory=list)
    _ids: int = 0

    def __post_init__(self) -> None:
        self.leases = Leases(self.clock, self._new_id, lambda gpus: "H100" if gpus else "cpu")

    @property
    def rows(self) -> list[Interval]:
        return self.leases.rows

    def settle(self, slot: Slot, limit_us: int | None = None) -> Usage:
        return usage_of(slot, slot.settle(limit_us), len(self.calls))

    def post(self, row: Usage) -> None:
        self.calls.append(row)
        self.leases.posted([row])

    def call(self, slot: Slot, limit_us: int | None = None) -> Usage:
        """A call that is over in all respects."""
        slot.release()
        row = self.settle(slot, limit_us)
        self.post(row)
        return row

    def _new_id(self, now_us: int) -> str:
        self._ids += 1
        return f"lease-{self._ids}"


GPUS = (Gpu(0, "cuda:0"), Gpu(1, "cuda:1"))


def usage_of(slot: Slot, held: Held, number: int, status: Status = "succeeded") -> Usage:
    subject = slot.lease.subject
    return Usage(
        invocation_id=f"call-{number}",
        tenant="acme",
        caller="",
        function=subject.function,
        revision=subject.revision,
        device_class=subject.device_class,
        started_at_us=held.started_at_us,
        busy_us=0,
        held_us=held.held_us,
        restore_us=0,
        status=status,
        device=subject.device,
        lease=subject.lease,
        devices=subject.devices,
    )


def is_closed(rows: Iterable[Interval], lease: str) -> bool:
    return sum(row.closes for row in rows if row.lease == lease) == 1


def by_day(rows: Iterable[Interval], calls: Iterable[Usage], lease: str) -> dict[str, Counter[int]]:
    """What the rows of a lease come to, by kind and day."""
    found: dict[str, Counter[int]] = {"held": Counter(), "parts": Counter()}
    for row in rows:
        if row.lease == lease:
            kind = "held" if row.kind == "held" else "parts"
            _spread(found[kind], row.started_at_us, row.duration_us)
    for call in calls:
        if call.lease == lease:
            _spread(found["parts"], call.started_at_us, call.held_us)
    return found


def _spread(days: Counter[int], start_us: int, duration_us: int) -> None:
    end_us = start_us + duration_us
    midnights = range((start_us // DAY_US + 1) * DAY_US, end_us, DAY_US)
    for at_us, part_us in at_boundaries(start_us, duration_us, midnights):
        days[at_us // DAY_US] += part_us
