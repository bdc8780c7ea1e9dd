"""The figures of `workflow`, its tables and its aims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.harness import Spread, console, show
from benchmarks.workflows.cases import STEPS_OF_A_RUN, Case, Shape
from benchmarks.workflows.running import Found, Resumed
from benchmarks.workflows.systems import EACH_STEP, System

STEP_MS = 2.0
TIMES_LESS = 10.0
LINEAR = 1.2  # a thousand side by side may cost so many times more each than a hundred
TITLES: Mapping[Shape, str] = {
    "chain": "one after the other, ms per step",
    "fan": "side by side and joined, ms per step",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A system's figures of a case over all rounds. `step_ms`: a run's time over its steps; of
    `load` one run's time is `run_ms` and `runs_per_s` has a value for each round."""

    system: str
    keeps: str
    shape: Shape
    size: int
    run_ms: Spread | None
    step_ms: Spread | None
    runs_per_s: Spread | None
    failed: str

    @classmethod
    def of(cls, system: System, case: Case, found: Sequence[Found]) -> Row:
        """Of what was found in each round."""
        good = [each for each in found if not each.failed]
        run_ms = [one_s * 1e3 for each in good for one_s in each.each_s]
        steps = STEPS_OF_A_RUN if case.shape == "load" else case.size
        return cls(
            *(system.name, system.keeps, case.shape, case.size),
            run_ms=_spread(run_ms),
            step_ms=_spread([one / steps for one in run_ms]),
            runs_per_s=_spread([len(each.each_s) / each.all_s for each in good]),
            failed=next((each.failed for each in found if each.failed), ""),
        )


@dataclass(frozen=True, slots=True)
class ResumedRow:
    """How a system went on with interrupted runs."""

    system: str
    resumed: Resumed
    shape: str = "resume"


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure and what it is to be."""

    what: str
    found: float
    aim: str
    reached: bool


def show_all(rows: Sequence[Row], resumed: Sequence[ResumedRow]) -> None:
    """Prints all tables, what failed, and the aims."""
    columns = ("system", "keeps", "steps", "p50", "p99", "least", "most", "runs")
    for shape, title in TITLES.items():
        show(title, columns, [_steps_line(row) for row in rows if row.shape == shape])
    columns = ("system", "keeps", "under way", "runs/s", "least", "most", "run p50 ms", "p99 ms")
    loads = [_load_line(row) for row in rows if row.shape == "load"]
    show(f"runs of {STEPS_OF_A_RUN} steps, many at once", columns, loads)
    if resumed:
        _show_resumed(resumed)
    for text in _failures(rows, resumed):
        console.print(text, markup=False)
    for aim in aims(rows):
        word = "reached" if aim.reached else "missed"
        console.print(f"{aim.what}: {aim.found:,.2f}, to be {aim.aim}: {word}", markup=False)


def aims(rows: Sequence[Row]) -> list[Aim]:
    """What dsfn is to reach, as far as it was measured."""
    return [*_step_aims(rows), *_linear_aim(rows)]


def _step_aims(rows: Sequence[Row]) -> Iterator[Aim]:
    durable = {
        row.system: row.step_ms.p50
        for row in rows
        if (row.shape, row.size, row.keeps) == ("chain", 10, EACH_STEP) and row.step_ms
    }
    ours = durable.pop("dsfn", None)
    if ours is None:
        return
    yield Aim("ms per step in a chain of ten", ours, f"at most {STEP_MS:g}", ours <= STEP_MS)
    if durable:
        best = min(durable, key=lambda name: durable[name])
        times, aim = durable[best] / ours, f"at least {TIMES_LESS:g}"
        yield Aim(f"times less than {best}", times, aim, times >= TIMES_LESS)


def _linear_aim(rows: Sequence[Row]) -> Iterator[Aim]:
    each = {
        row.size: row.step_ms.p50
        for row in rows
        if (row.system, row.shape) == ("dsfn", "fan") and row.step_ms
    }
    if {100, 1000} <= each.keys():
        times = each[1000] / each[100]
        what = "cost of one of 1,000 side by side over that of one of 100"
        yield Aim(what, times, f"at most {LINEAR:g}", times <= LINEAR)


def _steps_line(row: Row) -> tuple[str, ...]:
    ms = row.step_ms
    figures = (ms.p50, ms.p99, ms.least, ms.most) if ms else ()
    cells = [f"{figure:,.3f}" for figure in figures] or ["failed", "", "", ""]
    return (row.system, row.keeps, f"{row.size:,}", *cells, str(ms.n if ms else 0))


def _load_line(row: Row) -> tuple[str, ...]:
    head, rate, ms = (row.system, row.keeps, str(row.size)), row.runs_per_s, row.run_ms
    if rate is None or ms is None:
        return (*head, "failed", "", "", "", "")
    rates = (f"{figure:,.1f}" for figure in (rate.p50, rate.least, rate.most))
    return (*head, *rates, f"{ms.p50:,.0f}", f"{ms.p99:,.0f}")


def _show_resumed(resumed: Sequence[ResumedRow]) -> None:
    columns = ("system", "runs", "begun in s", "resumed in s", "resumed/s")
    lines = [_resumed_line(row) for row in resumed]
    show("killed with runs under way, started again", columns, lines)


def _resumed_line(row: ResumedRow) -> tuple[str, ...]:
    found = row.resumed
    if found.failed:
        return (row.system, f"{found.runs:,}", "failed", "", "")
    rate = found.runs / found.resumed_s
    seconds = (f"{found.begun_s:.1f}", f"{found.resumed_s:.1f}")
    return (row.system, f"{found.runs:,}", *seconds, f"{rate:,.0f}")


def _failures(rows: Sequence[Row], resumed: Sequence[ResumedRow]) -> Iterator[str]:
    """Each reason once, with all that failed for it."""
    failed: dict[str, list[str]] = {}
    for row in rows:
        failed.setdefault(row.failed, []).append(f"{row.system} {row.shape} {row.size}")
    for each in resumed:
        failed.setdefault(each.resumed.failed, []).append(f"{each.system} {each.shape}")
    failed.pop("", None)
    for reason, cases in failed.items():
        yield f"{', '.join(cases)}: {reason}"


def _spread(values: Sequence[float]) -> Spread | None:
    return Spread.of(values) if values else None
