"""From every state of a function with weights on a GPU to its answer, and the same by peers.

    python -m benchmarks.coldstart_gpu [--models image,text,decoder] [--states parked,deep]
        [--peers safetensors,instanttensor] [--devices cuda:0,cuda:1] [--directory /dev/shm]
        [--setups "one link" "two links, compressed"] [--codec DIRECTORY]
    python -m benchmarks.coldstart_gpu --models overlapped,awaited --states resident,parked
    python -m benchmarks.coldstart_gpu --tiny      # without a GPU, to see that it runs

A node serves the functions of `benchmarks/app/models.py`. A round puts a function into a state,
posts one request over a new connection, and compares the answer with that of the same model
built anew elsewhere. The peers then do as much of the job as they can. What fails is reported,
and all else goes on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.gpu.links import measure as measure_links
from benchmarks.gpu.models import COMPARED_MODELS, MODELS
from benchmarks.gpu.peers import PEERS, Found
from benchmarks.gpu.peers import measure as measure_peer
from benchmarks.gpu.rows import Measured, aims, show_aims, show_rows
from benchmarks.gpu.run import Run
from benchmarks.gpu.setups import STATES, setups
from benchmarks.gpu.states import serve
from benchmarks.harness import Machine, console

STAND_IN = "host:4000000000:5000000000"


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
        run.attempt("references", run.build_references)
        for setup in setups(options.devices, options.states, bool(options.codec)):
            if options.setups and setup.name not in options.setups:
                continue
            run.attempt(f"a node, {setup.name}", partial(serve, run, setup))
        # Others share the bus: the faster of two measurements, before and after.
        run.gpus = gpus.better(measure_links(options.devices))
        for peer in options.peers:
            _ask_peer(run, peer)
    show_rows(run.rows(), run.gpus)
    show_aims(aims(run.rows(), run.gpus))
    console.print(f"Written to {run.save()}")


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
            run.check(model, each.answer)
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
    parser.add_argument("--models", type=_several(tuple(MODELS)), default=COMPARED_MODELS)
    parser.add_argument("--states", type=_several(STATES), default=STATES)
    parser.add_argument("--peers", type=_several(tuple(PEERS)), default=tuple(PEERS))
    parser.add_argument("--devices", type=lambda text: text.split(","), default=["cuda:0"])
    parser.add_argument(
        "--codec", type=Path, help="where nvCOMP is installed, to be found by some nodes alone"
    )
    parser.add_argument(
        "--setups", nargs="+", help="only these nodes: 'one link' 'two links, compressed'"
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
