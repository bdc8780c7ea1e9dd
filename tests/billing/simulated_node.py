"""A node as far as its books know it: replicas that come, rest, are parked and come back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dsfn.billing.interval import Interval, IntervalKind, Reason
from dsfn.billing.periods import DAY_US, Month
from dsfn.billing.splitting import at_boundaries
from dsfn.billing.usage import Usage

SECOND_US = 1_000_000
MONTH = Month.parse("2026-09")
START_US, END_US = MONTH.start_us, MONTH.end_us


@dataclass(frozen=True, slots=True)
class Arrival:
    """A call: when it came, and how long it holds its replica."""

    at_us: int
    held_us: int


@dataclass(slots=True)
class _Replica:
    """One replica; `lease` counts its holdings, `begun_us` is None while it is parked."""

    begun_us: int | None = None
    free_from_us: int = 0
    lease: str = ""
    rows: int = 0
    rests: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class SimulatedNode:
    """Runs calls of one function on replicas that take one at a time, the one that was used last
    first. `tick_us`: it looks only so often who has rested enough. A call that comes in the very
    microsecond is in time."""

    park_after_us: int
    restore_us: int
    tick_us: int = 1
    function: str = "echo"
    device_class: str = "cpu"
    devices: int = 1
    busy_share: tuple[int, int] = (1, 2)
    calls: list[Usage] = field(default_factory=list)
    intervals: list[Interval] = field(default_factory=list)
    _replicas: list[_Replica] = field(default_factory=list)
    _leases: int = 0

    def run(self, arrivals: Sequence[Arrival], end_us: int = END_US) -> SimulatedNode:
        """Serves calls, in the order of their arrival, until `end_us`."""
        for arrival in arrivals:
            self._park(arrival.at_us)
            self._serve(arrival)
        self._park(end_us)
        for replica in self._replicas:
            if replica.begun_us is not None and replica.free_from_us < end_us:
                self._let_go(replica, end_us, closes=False)
        self.calls.sort(key=lambda row: row.started_at_us)
        self.intervals.sort(key=lambda row: row.started_at_us)
        return self

    def idle_us(self) -> int:
        """How long replicas rested."""
        return sum(row.duration_us for row in self.intervals if row.kind == "idle")

    def restores(self) -> int:
        """How often one was brought back."""
        return self._leases

    def cold_calls(self) -> int:
        """How many calls waited for that."""
        return sum(row.restore_us > 0 for row in self.calls)

    def _serve(self, arrival: Arrival) -> None:
        waited_us = 0
        free = [r for r in self._held() if r.free_from_us <= arrival.at_us]
        if free:
            replica = max(free, key=lambda r: r.free_from_us)
            replica.rests.append((replica.free_from_us, arrival.at_us))
        else:
            replica, waited_us = self._bring_back(arrival.at_us), self.restore_us
        start_us = arrival.at_us + waited_us
        replica.free_from_us = start_us + arrival.held_us
        self.calls.append(
            Usage(
                invocation_id=f"{self.function}-{len(self.calls)}",
                tenant="default",
                caller="",
                function=self.function,
                revision=f"{self.function}-0",
                device_class=self.device_class,
                started_at_us=start_us,
                busy_us=arrival.held_us * self.busy_share[0] // self.busy_share[1],
                held_us=arrival.held_us,
                restore_us=waited_us,
                status="succeeded",
                device="cpu",
                lease=replica.lease,
                devices=self.devices,
            )
        )

    def _bring_back(self, at_us: int) -> _Replica:
        parked = next((r for r in self._replicas if r.begun_us is None), None)
        if parked is None:
            parked = _Replica()
            self._replicas.append(parked)
        self._leases += 1
        parked.begun_us, parked.lease, parked.rows = at_us, f"l{self.function}{self._leases}", 0
        self._interval(parked, "restore", at_us, at_us + self.restore_us, "restore")
        return parked

    def _park(self, now_us: int) -> None:
        for replica in self._held():
            due_us = -(-(replica.free_from_us + self.park_after_us) // self.tick_us) * self.tick_us
            if due_us < now_us:
                self._let_go(replica, due_us, closes=True)

    def _let_go(self, replica: _Replica, at_us: int, closes: bool) -> None:
        assert replica.begun_us is not None
        replica.rests.append((replica.free_from_us, at_us))
        self._idle(replica)
        self._interval(replica, "held", replica.begun_us, at_us, closes=closes)
        replica.begun_us = None

    def _held(self) -> list[_Replica]:
        return [r for r in self._replicas if r.begun_us is not None]

    def _idle(self, replica: _Replica) -> None:
        """All rests of a day are one row, which begins when the first did."""
        days: dict[int, list[int]] = {}
        for rest in replica.rests:
            for start_us, duration_us in _at_midnights(*rest):
                day = days.setdefault(start_us // DAY_US, [start_us, 0])
                day[1] += duration_us
        for start_us, duration_us in days.values():
            self._interval(replica, "idle", start_us, start_us + duration_us, "idle")
        replica.rests.clear()

    def _interval(
        self,
        replica: _Replica,
        kind: IntervalKind,
        start_us: int,
        end_us: int,
        reason: Reason = "",
        closes: bool = False,
    ) -> None:
        pieces = list(_at_midnights(start_us, end_us))
        for number, (piece_us, duration_us) in enumerate(pieces, 1):
            replica.rows += 1
            self.intervals.append(
                Interval(
                    kind=kind,
                    id=f"{replica.lease}/{replica.rows}",
                    lease=replica.lease,
                    device="cpu",
                    devices=self.devices,
                    device_class=self.device_class,
                    function=self.function,
                    revision=f"{self.function}-0",
                    tenant="",
                    started_at_us=piece_us,
                    duration_us=duration_us,
                    reason=reason,
                    closes=closes and number == len(pieces),
                )
            )


def _at_midnights(start_us: int, end_us: int) -> Iterator[tuple[int, int]]:
    if end_us > start_us:
        midnights = range((start_us // DAY_US + 1) * DAY_US, end_us, DAY_US)
        yield from at_boundaries(start_us, end_us - start_us, midnights)
