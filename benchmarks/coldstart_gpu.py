"""From every state of a function with weights on a GPU to its answer, and the same by peers.

    python -m benchmarks.coldstart_gpu [--models image,text,decoder] [--states parked,deep]
        [--peers safetensors,instanttensor] [--devices cuda:0,cuda:1] [--directory /dev/shm]
        [--codec DIRECTORY]
    python -m benchmarks.coldstart_gpu --tiny      # without a GPU, to see that it runs

A node serves the functions of `benchmarks/app/models.py`. A round puts a function into a state,
posts one request over a new connection, and compares the answer with that of the same model
built anew elsewhere. The peers then do as much of the job as they can. What fails is reported,
and all else goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.app.models import Answer
from benchmarks.gpu.balloon import only
from benchmarks.gpu.links import Gpus
from benchmarks.gpu.links import measure as measure_links
from benchmarks.gpu.models import MODELS
from benchmarks.gpu.node import Node, Timed, gpu_node
from benchmarks.gpu.peers import PEERS, Found
from benchmarks.gpu.peers import measure as measure_peer
from benchmarks.gpu.rows import Measured, Row, aims, show_aims, show_rows
from benchmarks.gpu.setups import (
    CODED_MODELS,
    PARKED_AS,
    SLOW_STATES,
    STATES,
    Setup,
    setups,
)
from benchmarks.harness import ROOT, Machine, console, save

WARM_UP = 3
# For the node to make the next spare workers, or to bring a slab to a neighbour.
SETTLED_STATES = ("neighbour", "warm", "fork")
SETTLE_S = 1.5
# What is free of a GPU's memory that keeps nothing for its neighbours: they leave it a quarter.
CROWDED = 0.2
REFERENCE_S = 300.0
STAND_IN = "host:2000000000:5000000000"


@dataclass(frozen=True, slots=True)
class Rounds:
    """How many rounds: of quick states, of slow ones, of peers."""

    quick: int
    slow: int
    peers: int


ROUNDS: Mapping[str, Rounds] = {
    "image": Rounds(50, 5, 10),
    "text": Rounds(50, 5, 10),
    "decoder": Rounds(10, 3, 3),
}
TINY_ROUNDS = Rounds(3, 2, 2)


@dataclass(eq=False)
class Run:
    """What is to be measured, and what has been so far."""

    options: argparse.Namespace
    machine: Machine
    gpus: Gpus
    directory: Path
    measured: list[Measured] = field(default_factory=list)
    expected: dict[str, Answer] = field(default_factory=dict)
    began_s: float = field(default_factory=time.monotonic)

    def say(self, what: str) -> None:
        """Progress."""
        console.print(f"{time.monotonic() - self.began_s:7.1f} s  {what}", markup=False)

    def add(self, one: Measured) -> None:
        """Keeps a result, on disk as well."""
        self.measured.append(one)
        row = self.rows()[-1]
        found = f"{row.answer.p50:.2f} ms" if row.answer else f"failed: {row.failed}"
        name = ", ".join(filter(None, (one.system, one.model, one.state, one.setup)))
        self.say(f"{name}: {found}")
        self.save()

    def rows(self) -> list[Row]:
        """All results as figures."""
        sizes = {model: MODELS[model].size_bytes() for model in self.options.models}
        return [Row.of(one, sizes[one.model], self.gpus) for one in self.measured]

    def save(self) -> Path:
        """Writes what there is."""
        settings = {
            "gpus": asdict(self.gpus),
            "tiny": self.options.tiny,
            "aims": [asdict(aim) for aim in aims(self.rows(), self.gpus)],
        }
        output = self.options.output
        return save("coldstart_gpu", self.machine, settings, self.rows(), output)

    def rounds(self, model: str) -> Rounds:
        """How many of them."""
        return TINY_ROUNDS if self.options.tiny else ROUNDS[model]


def main() -> None:
    """Measures, prints and saves."""
    options = _options()
    if options.tiny:
        os.environ["DSFN_BENCH_TINY"] = "1"
    machine = Machine.this()
    gpus = measure_links(options.devices)
    console.print(f"{machine.sentence()}; {len(gpus.names)} x {gpus.names[0]}, {gpus.driver}")
    with _directory(options.directory) as directory:
        run = Run(options, machine, gpus, directory)
        _attempt(run, "references", partial(_references, run))
        for setup in setups(options.devices, options.states, bool(options.codec)):
            _attempt(run, f"a node, {setup.name}", partial(_serve, run, setup))
        # Others share the bus: the faster of two measurements, before and after.
        run.gpus = gpus.better(measure_links(options.devices))
        for peer in options.peers:
            _ask_peer(run, peer)
    show_rows(run.rows(), run.gpus)
    show_aims(aims(run.rows(), run.gpus))
    console.print(f"Written to {run.save()}")


def _attempt(run: Run, what: str, part: Callable[[], None]) -> None:
    """Runs a part; when it fails, the others go on."""
    run.say(what)
    try:
        part()
    except Exception as error:  # noqa: BLE001  whatever it was is reported
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        run.say(f"{what} failed: {type(error).__name__}: {error}{notes}")


def _references(run: Run) -> None:
    """Has a process build the models, ask them, and write their weights for the peers."""
    wanted = "weights" if run.options.peers else "answers"
    command = (sys.executable, "-m", "benchmarks.peers.reference", str(run.directory), wanted)
    done = subprocess.run(
        (*command, *run.options.models),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=REFERENCE_S,
    )
    for model in run.options.models:
        path = run.directory / f"{model}.json"
        if path.exists():
            run.expected[model] = json.loads(path.read_bytes())
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])


def _serve(run: Run, setup: Setup) -> None:
    """All states of all models that a node with this setup is for."""
    models = [
        model for model in run.options.models if not setup.compressed or model in CODED_MODELS
    ]
    variables = _with_codec(run.options.codec) if setup.compressed else {}
    free_bytes = int(run.gpus.memory_bytes * CROWDED)
    with (
        only(setup.devices[1], free_bytes) if setup.crowded else nullcontext(),
        gpu_node(run.directory, setup.config(run.options.models), variables) as node,
    ):
        for number, model in enumerate(models, 1):
            what = f"{model}, {setup.name}"
            _attempt(run, what, partial(_serve_model, run, node, setup, model, number))


def _with_codec(codec: Path) -> dict[str, str]:
    """The variables with which a process finds the codec's library beside all else."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(codec))))}


def _serve_model(run: Run, node: Node, setup: Setup, model: str, number: int) -> None:
    node.deploy(model)
    node.call(model)
    if setup.compressed:
        node.wait_until_coded(number)
    for state in setup.states:
        run.add(_in_state(run, node, setup, model, state))
    node.park(model, "absent")


def _in_state(run: Run, node: Node, setup: Setup, model: str, state: str) -> Measured:
    """All rounds of a model in a state."""
    rounds = run.rounds(model)
    count = rounds.slow if state in SLOW_STATES else rounds.quick
    calls: list[Timed] = []
    failed = ""
    try:
        for _ in range(WARM_UP if PARKED_AS.get(state) != "absent" else 1):
            node.call(model)
        for _ in range(count):
            calls.append(_round(run, node, model, state))
    except Exception as error:  # noqa: BLE001  whatever it was stands in the table
        failed = f"{type(error).__name__}: {error}"
    return Measured(
        "dsfn",
        model,
        state,
        setup.name,
        answers_ms=[call.total_ms for call in calls],
        phases_ms=[call.phases_ms for call in calls],
        forwards_ms=[call.answer["forward_ms"] for call in calls],
        failed=failed,
    )


def _round(run: Run, node: Node, model: str, state: str) -> Timed:
    if state in PARKED_AS:
        node.park(model, PARKED_AS[state])
        if state in SETTLED_STATES:
            time.sleep(SETTLE_S)
    kept_bytes = node.kept_bytes()
    call = node.call(model)
    _check(run, model, call.answer)
    if call.was_cold != (state in PARKED_AS):
        raise RuntimeError(f"the function was not {state}: {call.phases_ms}")
    if (node.kept_bytes() > kept_bytes) != (state == "neighbour"):
        raise RuntimeError(f"{state}: the weights came from somewhere else")
    return call


def _check(run: Run, model: str, answer: Answer) -> None:
    """Raises `RuntimeError` on a wrong answer. Other alignments of the same weights lead to other
    kernels and so to another rounding of the sum."""
    expected = run.expected[model]
    right = answer["strongest"] == expected["strongest"]
    if not right or not math.isclose(answer["total"], expected["total"], rel_tol=0.05, abs_tol=5.0):
        raise RuntimeError(f"{model} answered {answer} instead of {expected}")


def _ask_peer(run: Run, name: str) -> None:
    models = [model for model in run.options.models if model in run.expected]
    rounds = {model: run.rounds(model).peers for model in models}
    size_bytes = sum(MODELS[model].size_bytes() for model in models)
    run.say(name)
    for model, found in measure_peer(PEERS[name], run.directory, rounds, size_bytes).items():
        run.add(_of_peer(run, name, model, found))


def _of_peer(run: Run, name: str, model: str, found: Found) -> Measured:
    failed = f"does not run here: {found.failed}" if found.failed else ""
    try:
        for each in found.rounds:
            _check(run, model, each.answer)
    except RuntimeError as error:
        failed = str(error)
    return Measured(
        name,
        model,
        PEERS[name].way,
        answers_ms=[each.answer_ms for each in found.rounds],
        forwards_ms=[each.answer["forward_ms"] for each in found.rounds],
        phases_ms=[{"load": each.load_ms} for each in found.rounds],
        failed=failed,
    )


@contextmanager
def _directory(root: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="dsfn-coldstart-", dir=root))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=_several(tuple(MODELS)), default=tuple(MODELS))
    parser.add_argument("--states", type=_several(STATES), default=STATES)
    parser.add_argument("--peers", type=_several(tuple(PEERS)), default=tuple(PEERS))
    parser.add_argument("--devices", type=lambda text: text.split(","), default=["cuda:0"])
    parser.add_argument(
        "--codec", type=Path, help="where nvCOMP is installed, to be found by some nodes alone"
    )
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--tiny", action="store_true", help="small models on a stand-in")
    parser.add_argument("--output", type=Path, help="a file in place of benchmarks/results/...")
    options = parser.parse_args()
    if options.tiny and "host" not in options.devices[0]:
        options.devices = [STAND_IN]
    return options


def _several(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        chosen = tuple(name for name in text.split(",") if name)
        if not set(chosen) <= set(known):
            raise argparse.ArgumentTypeError(f"choose from {', '.join(known)}")
        return chosen

    return names


if __name__ == "__main__":
    main()
