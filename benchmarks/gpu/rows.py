"""What `coldstart_gpu` has measured, as rows and tables, and the aims that it is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.gpu.links import Gpus
from benchmarks.gpu.models import COMPARED_MODELS
from benchmarks.harness import Spread, console, show

# What may come on top of the bus: HTTP, the node, mapping, the forward pass.
FIXED_MS = 5.0
NEIGHBOUR_BYTES_PER_S = 350e9
BOTH_MEANS_MS = 130.0
DEEP_MS = 500.0
RESIDENT_MS = 3.0
TIMES_AHEAD = 5.0
COMPARED = ("image", "text")


@dataclass(frozen=True, slots=True)
class Measured:
    """One system with one model in one state; milliseconds. `setup` is how the node was started,
    `failed` why nothing was measured."""

    system: str
    model: str
    state: str
    setup: str = ""
    answers_ms: Sequence[float] = ()
    phases_ms: Sequence[Mapping[str, float]] = ()
    forwards_ms: Sequence[float] = ()
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """The same as figures. `floor_ms`: the weights' bytes over what one link to pinned memory
    carried in this run. `ratio`: the median answer over that."""

    system: str
    model: str
    state: str
    setup: str
    weights_bytes: int
    floor_ms: float
    ratio: float | None = None
    answer: Spread | None = None
    forward: Spread | None = None
    phases: Mapping[str, Spread] = field(default_factory=dict)
    failed: str = ""

    @classmethod
    def of(cls, one: Measured, weights_bytes: int, gpus: Gpus) -> Row:
        """The figures of what was measured."""
        floor_ms = weights_bytes / gpus.one_link_bytes_per_s * 1000
        known = (one.system, one.model, one.state, one.setup, weights_bytes, floor_ms)
        if not one.answers_ms:
            return cls(*known, failed=one.failed or "nothing was measured")
        answer = Spread.of(one.answers_ms)
        names = dict.fromkeys(name for phases in one.phases_ms for name in phases)
        return cls(
            *known,
            ratio=answer.p50 / floor_ms,
            answer=answer,
            forward=Spread.of(one.forwards_ms),
            phases={n: Spread.of([phases.get(n, 0) for phases in one.phases_ms]) for n in names},
            failed=one.failed,
        )

    def title(self) -> str:
        """Who, in which state, on which node."""
        return ", ".join(filter(None, (self.system, self.state, self.setup)))


@dataclass(frozen=True, slots=True)
class Aim:
    """A most in milliseconds, or for the distance to peers a least factor, and what was found."""

    what: str
    limit: float
    found: float
    met: bool

    @classmethod
    def at_most(cls, what: str, limit: float, found: float) -> Aim:
        """Met by what is not above its limit."""
        return cls(what, limit, found, found <= limit)

    @classmethod
    def at_least(cls, what: str, limit: float, found: float) -> Aim:
        """Met by what is not below its limit."""
        return cls(what, limit, found, found >= limit)


def aims(rows: Sequence[Row], gpus: Gpus) -> list[Aim]:
    """Each aim that something was measured for. Figures are medians."""
    found = []
    for row in rows:
        if row.system == "dsfn" and row.answer is not None:
            limit_ms = _limit_ms(row, gpus) if row.model in COMPARED_MODELS else None
            if limit_ms is not None:
                what = f"{row.model}, {row.state}, {row.setup}"
                found.append(Aim.at_most(what, limit_ms, row.answer.p50))
    return [*found, *_aims_against_peers(rows)]


def _limit_ms(row: Row, gpus: Gpus) -> float | None:
    both_ms = row.weights_bytes / gpus.all_links_bytes_per_s * 1000
    compressed = row.model != "image"
    match row.state, row.setup:
        case "resident", _:
            assert row.forward is not None, "an answer has a forward pass"
            return row.forward.p50 + RESIDENT_MS
        case "deep", _:
            return DEEP_MS + row.floor_ms
        case "neighbour", _:
            return 3 + row.weights_bytes / NEIGHBOUR_BYTES_PER_S * 1000
        case "parked", "one link":
            return 1.05 * row.floor_ms + FIXED_MS
        case "parked", "one link, compressed" if compressed:
            return 0.72 * row.floor_ms + FIXED_MS
        case "parked", "two links":
            return 1.1 * both_ms + FIXED_MS
        case "parked", "two links, compressed" if row.model == "decoder":
            return BOTH_MEANS_MS
        case _:
            return None


def _aims_against_peers(rows: Sequence[Row]) -> list[Aim]:
    """Ahead of the best peer that loads weights, and of the best of all, which may have kept its
    process and a pinned copy of the weights as dsfn does."""
    found = []
    for model in COMPARED:
        answered = [row for row in rows if row.model == model and row.answer is not None]
        ours = [_median(row) for row in answered if (row.system, row.state) == ("dsfn", "parked")]
        peers = [row for row in answered if row.system != "dsfn"]
        for kind in ([row for row in peers if row.state == "load"], peers):
            if ours and kind:
                best = min(kind, key=_median)
                what = f"{model}, times ahead of {best.system} ({best.state})"
                found.append(Aim.at_least(what, TIMES_AHEAD, _median(best) / min(ours)))
    return list(dict.fromkeys(found))


def _median(row: Row) -> float:
    assert row.answer is not None, "only rows with an answer are asked"
    return row.answer.p50


def show_rows(rows: Sequence[Row], gpus: Gpus) -> None:
    """A table for each model, and one of the phases of its calls."""
    for model in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == model]
        size, rate = mine[0].weights_bytes / 1e9, gpus.one_link_bytes_per_s / 1e9
        floor = f"floor {mine[0].floor_ms:.2f} ms at {rate:.1f} GB/s"
        columns = (
            "request to answer, ms",
            "p50",
            "p99",
            "least",
            "most",
            "n",
            "x floor",
            "forward",
        )
        lines = [_cells(row) for row in mine if row.answer is not None]
        show(f"{model}: {size:.2f} GB of weights, {floor}", columns, lines)
        for row in mine:
            if row.failed:
                console.print(f"{row.title()}: {row.failed}", markup=False)
        _show_phases(model, [row for row in mine if row.phases])


def _cells(row: Row) -> tuple[str, ...]:
    assert row.answer is not None and row.forward is not None and row.ratio is not None
    spread = row.answer
    return (
        row.title(),
        *(f"{ms:.2f}" for ms in (spread.p50, spread.p99, spread.least, spread.most)),
        str(spread.n),
        f"{row.ratio:.2f}",
        f"{row.forward.p50:.2f}",
    )


def _show_phases(model: str, rows: Sequence[Row]) -> None:
    names = tuple(dict.fromkeys(name for row in rows for name in row.phases))
    lines = [(row.title(), *(_phase(row, name) for name in names)) for row in rows]
    if lines:
        show(f"{model}: phases, p50 in ms", ("state", *names), lines)


def _phase(row: Row, name: str) -> str:
    return f"{row.phases[name].p50:.2f}" if name in row.phases else ""


def show_aims(found: Sequence[Aim]) -> None:
    """A table of the aims."""
    lines = [
        (aim.what, f"{aim.limit:.2f}", f"{aim.found:.2f}", "met" if aim.met else "missed")
        for aim in found
    ]
    if lines:
        show("aims", ("p50 in ms, or times", "limit", "found", ""), lines)
