"""Twice as many models as fit a GPU, under traffic most of which goes to a few of them.

    python -m benchmarks.many_models [--device cuda:0] [--gpu 24GiB] [--model 4GB] [--seconds 90]
    python -m benchmarks.many_models --tiny        # without a GPU, to see that it runs

The same calls, sent by a process of their own at times that are drawn once, go to a dsfn node, to
a process for each model that is loaded on demand, and to as many processes as fit, with the
models that are asked most. Every answer is compared with that of the model when it was built.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.gpu.balloon import only
from benchmarks.gpu.links import Gpus, measure
from benchmarks.gpu.scene import EXPONENT, Scene, Shape, bearable_gpu_bytes
from benchmarks.gpu.serving import PRESSED_S, SYSTEMS
from benchmarks.harness import ROOT, Machine, Spread, console, save, show
from benchmarks.processes import request
from benchmarks.traffic import ANSWER_S, Arrival, Outcome
from dsfn.functions.options import parse_bytes

LOOK_S = 0.1
ON_GPU = ("starting", "ready", "busy")
WIDTH = 4096
STAND_IN = "host:201326592:5000000000"


@dataclass(frozen=True, slots=True)
class Row:
    """A system's figures. Latencies are of answers, from when a call was to be sent. `held_gpu_s`:
    seconds of a whole GPU, by the share of its memory in which weights lay. `problems`: errors
    by name, calls refused among them."""

    system: str
    calls: int
    answered: int
    latency_ms: Spread | None
    warm_ms: Spread | None
    cold_ms: Spread | None
    cold_share: float
    held_gpu_s: float
    wrong: int
    problems: Mapping[str, int]


def main() -> None:
    """Measures, prints and saves."""
    options = _options()
    machine = Machine.this()
    gpus = measure([options.device])
    console.print(f"{machine.sentence()}; {gpus.names[0]}, {gpus.driver}")
    shape = Shape(4, 64) if options.tiny else Shape(max(1, options.model // (2 * WIDTH**2)), WIDTH)
    bearable_bytes = bearable_gpu_bytes(shape, machine.memory_bytes)
    gpu_bytes = min(gpus.memory_bytes, options.gpu or bearable_bytes)
    rows: list[Row] = []
    with _directory(options.directory) as directory, only(options.device, gpu_bytes):
        traffic = (options.calls, options.seconds)
        scene = Scene.of(options.device, gpu_bytes, shape, *traffic, directory)
        console.print(_sentence(scene))
        for system in options.systems:
            try:
                rows.append(_run(system, scene))
            except Exception as error:  # noqa: BLE001  whatever it was, the others go on
                console.print(f"{system} failed: {type(error).__name__}: {error}", markup=False)
            path = save("many_models", machine, _settings(scene, gpus), rows, options.output)
    _show(rows)
    console.print(f"Written to {path}")


def _run(system: str, scene: Scene) -> Row:
    console.print(f"{system} starts")
    with SYSTEMS[system](scene) as port:
        console.print(f"{system} serves")
        with _looking(port) as held:
            outcomes = _traffic(scene, port)
        row = _row(system, scene, outcomes, held())
    _show([row])
    return row


def _traffic(scene: Scene, port: int) -> list[Outcome]:
    """Has a process of its own send all calls."""
    path = scene.directory / "plan.json"
    path.write_text(json.dumps([asdict(arrival) for arrival in scene.arrivals]))
    done = subprocess.run(
        (sys.executable, "-m", "benchmarks.traffic", str(path), f"http://127.0.0.1:{port}"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=scene.seconds + 2 * ANSWER_S,
    )
    documents = map(json.loads, done.stdout.splitlines())
    return [Outcome(**{**each, "arrival": Arrival(**each["arrival"])}) for each in documents]


@contextmanager
def _looking(port: int) -> Iterator[Callable[[], float]]:
    """Looks again and again, inside the block, at which functions are on the GPU; gives the
    seconds that each of them was, added up."""
    ended, held = threading.Event(), [0.0]

    def look() -> None:
        before_s = time.monotonic()
        while not ended.wait(LOOK_S):
            document = json.loads(request(port, "GET", "/functions").body)
            now_s = time.monotonic()
            count = sum(each["state"] in ON_GPU for each in document["functions"])
            held[0] += count * (now_s - before_s)
            before_s = now_s

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: held[0]
    finally:
        ended.set()
        thread.join()


def _row(system: str, scene: Scene, outcomes: Sequence[Outcome], held_s: float) -> Row:
    answered = [each for each in outcomes if each.status == 200]
    cold = [each for each in answered if each.cold]
    return Row(
        system=system,
        calls=len(outcomes),
        answered=len(answered),
        latency_ms=_spread(answered),
        warm_ms=_spread([each for each in answered if not each.cold]),
        cold_ms=_spread(cold),
        cold_share=len(cold) / max(1, len(answered)),
        held_gpu_s=held_s * scene.shape.size_bytes / scene.gpu_bytes,
        wrong=sum(not _is_right(scene, each) for each in answered),
        problems=dict(Counter(each.problem for each in outcomes if each.status != 200)),
    )


def _spread(outcomes: Sequence[Outcome]) -> Spread | None:
    return Spread.of([each.latency_ms for each in outcomes]) if outcomes else None


def _is_right(scene: Scene, outcome: Outcome) -> bool:
    """Other alignments of the same weights lead to other kernels and another rounding."""
    expected = scene.expected[outcome.arrival.function][outcome.arrival.number]
    same = outcome.answer["strongest"] == expected["strongest"]
    return same and math.isclose(outcome.answer["total"], expected["total"], rel_tol=0.05)


def _show(rows: Sequence[Row]) -> None:
    columns = ("ms", "p50", "p99", "warm p50", "cold p50", "cold", "answered", "GPU s", "wrong")
    lines = [
        (
            row.system,
            *map(_figure, (row.latency_ms, row.latency_ms), ("p50", "p99")),
            *map(_figure, (row.warm_ms, row.cold_ms), ("p50", "p50")),
            f"{row.cold_share:.0%}",
            f"{row.answered} of {row.calls}",
            f"{row.held_gpu_s:.1f}",
            str(row.wrong),
        )
        for row in rows
    ]
    show("many models", columns, lines)
    for row in rows:
        problems = ", ".join(f"{count} x {name}" for name, count in row.problems.items())
        console.print(f"{row.system}: {problems or 'no errors'}", markup=False)


def _figure(spread: Spread | None, name: str) -> str:
    return f"{getattr(spread, name):,.1f}" if spread else ""


def _sentence(scene: Scene) -> str:
    size, gpu = scene.shape.size_bytes / 1e9, scene.gpu_bytes / 1e9
    return (
        f"{len(scene.functions)} models of {size:.2f} GB on a GPU of {gpu:.1f} GB, of which"
        f" {scene.fit} fit; {len(scene.arrivals)} calls in {scene.seconds:g} s"
    )


def _settings(scene: Scene, gpus: Gpus) -> dict[str, object]:
    return {
        "gpus": asdict(gpus),
        "gpu_bytes": scene.gpu_bytes,
        "model_bytes": scene.shape.size_bytes,
        "models": len(scene.functions),
        "fit": scene.fit,
        "calls": len(scene.arrivals),
        "seconds": scene.seconds,
        "stands_for_s": PRESSED_S,
        "zipf_exponent": EXPONENT,
    }


@contextmanager
def _directory(root: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="dsfn-many-", dir=root))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument(
        "--gpu", type=parse_bytes, help="so much of it is used; as much as host memory allows"
    )
    parser.add_argument("--model", type=parse_bytes, default="4GB", help="size of one")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--systems", type=lambda text: text.split(","), default=list(SYSTEMS))
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--tiny", action="store_true", help="small models on a stand-in")
    parser.add_argument("--output", type=Path, help="a file in place of benchmarks/results/...")
    options = parser.parse_args()
    if options.tiny:
        options.device = STAND_IN
        options.calls, options.seconds = min(options.calls, 60), min(options.seconds, 10.0)
    return options


if __name__ == "__main__":
    main()
