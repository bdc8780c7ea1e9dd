"""From absent to answer, against a fresh Python process that loads the same model.

    python -m benchmarks.coldstart [--rounds 20] [--functions embed,classify]

A node serves the library's functions, each of them removed 0.2 s after a call. A round
waits until nothing of a function is left but its snapshot, calls it over HTTP, then runs
the same code in a fresh process, and compares the two answers.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Machine, Spread, console, save, show
from benchmarks.processes import request
from benchmarks.systems import deploy, node

LIBRARY = ROOT / "functions" / "library"
SAMPLES = LIBRARY / "samples"
REMOVE_AFTER_S = 0.2
PAUSE_S = 1.0  # for the node to fork the next spare workers, as between any two cold starts
REMOVED_S = 30.0
PHASES = ("queue", "start", "restore", "execute")


@dataclass(frozen=True, slots=True)
class Function:
    """A library function and one call of it: `argument` is what `fresh` takes."""

    name: str
    source: Path
    argument: str
    content_type: str

    def body(self) -> bytes:
        """What is posted."""
        if self.content_type == "application/json":
            return json.dumps({"texts": [self.argument]}).encode()
        return Path(self.argument).read_bytes()


FUNCTIONS: Mapping[str, Function] = {
    f.name: f
    for f in (
        Function("embed", LIBRARY / "embed.py", "How do I reset my password?", "application/json"),
        Function("classify", LIBRARY / "classify.py", str(SAMPLES / "cat.jpg"), "image/jpeg"),
        Function("detect-speech", LIBRARY / "speech.py", str(SAMPLES / "speech.ogg"), "audio/ogg"),
    )
}


@dataclass(frozen=True, slots=True)
class Cold:
    """One cold call: what the client waited, and what the node says of it."""

    total_ms: float
    phases_ms: Mapping[str, float]
    answer: Any


@dataclass(frozen=True, slots=True)
class Row:
    """A function's figures in milliseconds. `other` is what no phase covers: HTTP, client."""

    function: str
    cold: Spread
    phases: Mapping[str, Spread]
    other: Spread
    fresh: Spread
    times_faster: float


def main() -> None:
    """Measures, prints and saves."""
    options = _options()
    machine = Machine.this()
    console.print(machine.sentence())
    chosen = [FUNCTIONS[name] for name in options.functions]
    cold: dict[str, list[Cold]] = {f.name: [] for f in chosen}
    fresh: dict[str, list[float]] = {f.name: [] for f in chosen}
    with (
        tempfile.TemporaryDirectory(prefix="dsfn-bench-") as directory,
        node(Path(directory)) as port,
    ):
        for function in chosen:
            deploy(port, _removed_soon(function, Path(directory)))
        for number in range(options.rounds):
            console.print(f"round {number + 1} of {options.rounds}")
            for function in chosen:
                _wait_until_absent(port, function.name)
                one = _cold(port, function)
                fresh_ms, answer = _fresh(function)
                assert _alike(one.answer, answer), (one.answer, answer)
                cold[function.name].append(one)
                fresh[function.name].append(fresh_ms)
    rows = [_row(f.name, cold[f.name], fresh[f.name]) for f in chosen]
    _show(rows)
    console.print(f"Written to {save('coldstart', machine, vars(options), rows)}")


def _removed_soon(function: Function, directory: Path) -> Path:
    """The function's source with an option more, in a file of its own."""
    decorator = f'@dsfn.function(name="{function.name}"'
    options = f"{decorator}, park_after={REMOVE_AFTER_S}, remove_after={REMOVE_AFTER_S}"
    text = function.source.read_text(encoding="utf-8")
    assert decorator in text
    path = directory / function.source.name
    path.write_text(text.replace(decorator, options), encoding="utf-8")
    return path


def _wait_until_absent(port: int, name: str) -> None:
    deadline_s = time.monotonic() + REMOVED_S
    while time.monotonic() < deadline_s:
        answer = request(port, "GET", f"/functions/{name}")
        if json.loads(answer.body)["state"] == "absent":
            time.sleep(PAUSE_S)
            return
        time.sleep(0.05)
    raise RuntimeError(f"{name} is still there after {REMOVED_S} s")


def _cold(port: int, function: Function) -> Cold:
    body, path = function.body(), f"/functions/{function.name}"
    started = time.perf_counter()
    answer = request(port, "POST", path, body, function.content_type)
    total_ms = (time.perf_counter() - started) * 1e3
    assert answer.status == 200, answer
    phases = dict.fromkeys(PHASES, 0.0)
    for entry in answer.headers["server-timing"].split(","):
        phase, _, duration = entry.strip().partition(";dur=")
        if phase in PHASES:  # and not a part of one
            phases[phase] = float(duration)
    assert phases["start"] + phases["restore"] > 0, "the function was not absent"
    return Cold(total_ms, phases, json.loads(answer.body))


def _fresh(function: Function) -> tuple[float, Any]:
    command = (sys.executable, "-m", "benchmarks.fresh", function.name, function.argument)
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    elapsed_ms = (time.perf_counter() - started) * 1e3
    return elapsed_ms, json.loads(done.stdout.splitlines()[-1])


def _alike(one: Any, other: Any) -> bool:
    """Whether two JSON documents are the same but for rounding."""
    if isinstance(one, float):
        return math.isclose(one, other, abs_tol=1e-5)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(one[k], other[k]) for k in one)
    return bool(one == other)


def _row(function: str, cold: Sequence[Cold], fresh: Sequence[float]) -> Row:
    totals, others = Spread.of([c.total_ms for c in cold]), Spread.of(fresh)
    return Row(
        function,
        cold=totals,
        phases={p: Spread.of([c.phases_ms[p] for c in cold]) for p in PHASES},
        other=Spread.of([c.total_ms - sum(c.phases_ms.values()) for c in cold]),
        fresh=others,
        times_faster=others.p50 / totals.p50,
    )


def _show(rows: Sequence[Row]) -> None:
    columns = ("function", "cold p50", "p99", "least", "most", "fresh p50", "least", "faster")
    lines = [
        (
            row.function,
            *(f"{ms:.1f}" for ms in (row.cold.p50, row.cold.p99, row.cold.least, row.cold.most)),
            *(f"{ms:,.0f}" for ms in (row.fresh.p50, row.fresh.least)),
            f"{row.times_faster:.0f} x",
        )
        for row in rows
    ]
    show("absent to answer, ms", columns, lines)
    phases = [
        (row.function, *(f"{row.phases[p].p50:.1f}" for p in PHASES), f"{row.other.p50:.1f}")
        for row in rows
    ]
    show("phases of the cold call, p50 in ms", ("function", *PHASES, "other"), phases)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--functions", type=lambda text: tuple(text.split(",")), default=tuple(FUNCTIONS)
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
