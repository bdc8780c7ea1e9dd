"""Strategies for what can be posted, and what a ledger must say of it, calculated by hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from dsfn.billing.interval import Interval
from dsfn.billing.ledger import DeviceTime, UsageSum
from dsfn.billing.periods import DAY_US
from dsfn.billing.selection import Selection
from dsfn.billing.usage import STATUSES, Usage

DAY_0 = 20_000 * DAY_US
INSTANTS = st.integers(DAY_0, DAY_0 + 3 * DAY_US) | st.sampled_from(
    [DAY_0 + day * DAY_US + us for day in range(4) for us in (-1, 0, 1)]
)
DURATIONS = st.integers(0, 2 * DAY_US) | st.integers(0, 3)
CLASSES = ("cpu", "NVIDIA L4")
_FIGURES = ("requests", "busy_us", "held_us", "restore_us")


@st.composite
def calls(draw: st.DrawFn, number: int, lease: str = "") -> Usage:
    """A call of any status, on one of two device classes."""
    held_us = draw(DURATIONS)
    return Usage(
        invocation_id=f"i-{number}",
        tenant=draw(st.sampled_from(["t", "u"])),
        caller="",
        function=draw(st.sampled_from(["f", "g"])),
        revision="",
        device_class=draw(st.sampled_from(CLASSES)),
        started_at_us=draw(INSTANTS),
        busy_us=draw(st.integers(0, held_us)),
        held_us=held_us,
        restore_us=draw(DURATIONS),
        status=draw(st.sampled_from(STATUSES)),
        devices=draw(st.integers(1, 4)),
        key_id=draw(st.sampled_from(["", "k"])),
        lease=lease,
    )


@st.composite
def lists_of_calls(draw: st.DrawFn, max_size: int = 12) -> list[Usage]:
    """Calls with ids of their own."""
    return [draw(calls(number)) for number in range(draw(st.integers(0, max_size)))]


@dataclass(frozen=True, slots=True)
class Holding:
    """A lease with all that it was held for, and how it was held."""

    calls: tuple[Usage, ...]
    intervals: tuple[Interval, ...]

    @property
    def rows(self) -> list[Usage | Interval]:
        return [*self.calls, *self.intervals]


@st.composite
def holdings(draw: st.DrawFn, lease: str) -> Holding:
    """A lease that is cut into calls, restores and idle time in any order, to the microsecond."""
    devices, device_class = draw(st.integers(1, 4)), draw(st.sampled_from(CLASSES))
    at_us = start_us = draw(INSTANTS)
    found_calls: list[Usage] = []
    intervals: list[Interval] = []

    def interval(kind: str, from_us: int, duration_us: int, **more: object) -> Interval:
        return Interval(
            kind=kind,  # type: ignore[arg-type]
            id=f"{lease}/{len(intervals)}",
            lease=lease,
            device="gpu:0",
            devices=devices,
            device_class=device_class,
            function="f",
            revision="",
            tenant=draw(st.sampled_from(["", "t"])),
            started_at_us=from_us,
            duration_us=duration_us,
            **more,  # type: ignore[arg-type]
        )

    for number in range(draw(st.integers(0, 8))):
        duration_us = draw(DURATIONS)
        kind = draw(st.sampled_from(["call", "restore", "idle"]))
        if kind == "call":
            status = draw(st.sampled_from([s for s in STATUSES if s != "rejected"]))
            found_calls.append(
                Usage(
                    f"{lease}-{number}", "t", "", "f", "", device_class, at_us, 0, duration_us, 0,
                    status, lease=lease, devices=devices,  # type: ignore[arg-type]
                )
            )  # fmt: skip
        else:
            reason = draw(st.sampled_from(["", "fault", "idle"]))
            intervals.append(interval(kind, at_us, duration_us, reason=reason))
        at_us += duration_us
    intervals.append(interval("held", start_us, at_us - start_us, closes=True))
    return Holding(tuple(found_calls), tuple(intervals))


Sums = dict[tuple[str | int, ...], tuple[int, ...]]


def sums_by_hand(rows: Iterable[Usage], selection: Selection) -> Sums:
    """What `Ledger.sums` must add up to, by revision or day."""
    found: dict[tuple[str | int, ...], Counter[str]] = defaultdict(Counter)
    for row in rows:
        day, ends_us = row.started_at_us // DAY_US, row.started_at_us + row.held_us
        starts_in_it = selection.start_us <= row.started_at_us < selection.end_us
        if starts_in_it and ends_us <= min(selection.end_us, (day + 1) * DAY_US):
            revision = row.revision if selection.by == "revision" else ""
            day = day if selection.by == "day" else 0
            sums = found[row.tenant, row.function, revision, row.device_class, row.status, day]
            sums["requests"] += 1
            for name in ("busy_us", "held_us", "restore_us"):
                sums[name] += getattr(row, name) * row.devices
    return {key: _figures(sums) for key, sums in found.items()}


def added_up(sums: Iterable[UsageSum]) -> Sums:
    """What `Ledger.sums` gave, which may come in several parts."""
    found: dict[tuple[str | int, ...], Counter[str]] = defaultdict(Counter)
    for each in sums:
        key = (each.tenant, each.function, each.revision, each.device_class, each.status, each.day)
        for name in _FIGURES:
            found[key][name] += getattr(each, name)
    return {key: _figures(sums) for key, sums in found.items() if any(_figures(sums))}


def _figures(sums: Counter[str]) -> tuple[int, ...]:
    return tuple(sums[name] for name in _FIGURES)


def device_times_by_hand(
    rows: Sequence[Usage | Interval], start_us: int, end_us: int
) -> list[DeviceTime]:
    """What `Ledger.device_times` must give."""
    times: Counter[tuple[str, str]] = Counter()
    for row in rows:
        pieces: list[tuple[str, int]] = []
        if isinstance(row, Interval):
            if row.kind != "held":
                pieces.append((row.kind, row.duration_us))
        elif row.status != "rejected":
            pieces.append(("requests", row.held_us))
            if not row.lease:
                pieces.append(("restore", row.restore_us))
        for kind, duration_us in pieces:
            part_us = min(end_us, row.started_at_us + duration_us) - max(
                start_us, row.started_at_us
            )
            times[row.device_class, kind] += row.devices * max(0, part_us)
    result = []
    for name in sorted({name for name, _ in times}):
        kinds = [times[name, kind] for kind in ("requests", "restore", "idle")]
        if sum(kinds):
            result.append(DeviceTime(name, sum(kinds), *kinds))
    return result
