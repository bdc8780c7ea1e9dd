"""How long until a function answers again after something was killed.

    python -m benchmarks.recovery [--models image,text] [--devices cuda:0] [--rounds 5]
    python -m benchmarks.recovery --tiny      # without a GPU, to see that it runs

A round puts a function into its state, ends a process with SIGKILL, and calls at once, again and
again, until the answer is right: what counts is the time from the kill to that answer, and how many
calls were told of the fault before it: those are the platform's to pay. A replica at rest answers
without the memory owner as long as the node has not noticed that it has ended, so there the first
call comes right after that.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Thread

from benchmarks.gpu.links import measure as measure_links
from benchmarks.gpu.models import COMPARED_MODELS, MODELS
from benchmarks.gpu.node import Node, gpu_node
from benchmarks.harness import Machine, Spread, console, save, several, show
from benchmarks.processes import request

PATIENCE_S = 60.0
STAND_IN = "host:4000000000:5000000000"
# Until the weights are on their way: a parked function's call has got so far by then.
ON_THE_WAY_S = 0.004
VICTIMS = ("worker, at rest", "worker, in a restore", "owner, at rest", "owner, in a restore")


@dataclass(frozen=True, slots=True)
class Row:
    """What was killed, and how long it took, in ms. `told`: calls of a round that ended with an
    error before the first right answer."""

    victim: str
    model: str
    weights_bytes: int
    back_ms: Spread
    told: Spread


def main() -> None:
    """Measures, prints and saves."""
    options = _options()
    if options.tiny:
        os.environ["DSFN_BENCH_TINY"] = "1"
    machine, gpus = Machine.this(), measure_links(options.devices)
    console.print(f"{machine.sentence()}; {len(gpus.names)} x {gpus.names[0]}, {gpus.driver}")
    settings = {"gpus": asdict(gpus), "tiny": options.tiny}
    keep = partial(save, "recovery", machine, settings, path=options.output)
    directory = Path(tempfile.mkdtemp(prefix="dsfn-recovery-", dir=options.directory))
    try:
        rows = _measure(options, directory, keep)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    show(
        "from SIGKILL to the next right answer",
        ("killed", "p50 ms", "most ms", "calls told"),
        [
            (
                f"{row.model}: {row.victim}",
                f"{row.back_ms.p50:.0f}",
                f"{row.back_ms.most:.0f}",
                f"{row.told.p50:g}",
            )
            for row in rows
        ],
    )
    console.print(f"Written to {keep(rows)}")


def _measure(
    options: argparse.Namespace, directory: Path, keep: Callable[[Sequence[Row]], Path]
) -> list[Row]:
    """All rows. What there is is kept after each, for a run that is cut short."""
    sizes = {model: MODELS[model].size_bytes() for model in options.models}
    arena_bytes = sum(sizes.values()) + (512 << 20)
    config = ["[gpu]", f"devices = {options.devices}", f"arena = {arena_bytes}"]
    rows: list[Row] = []
    with gpu_node(directory, config) as node:
        for model in options.models:
            node.deploy(model)
            right = node.call(model).answer["strongest"]
            for victim in VICTIMS:
                found = [_round(node, model, victim, right) for _ in range(options.rounds)]
                back_ms, told = (Spread.of(values) for values in zip(*found, strict=True))
                rows.append(Row(victim, model, sizes[model], back_ms, told))
                keep(rows)
            node.park(model, "absent")
    return rows


def _round(node: Node, model: str, victim: str, right: int) -> tuple[float, float]:
    """Milliseconds until the right answer, and the calls that were told of the fault."""
    who, when = victim.split(", ")
    node.call(model)
    _settle(node)
    pid = node.memory()["pid"] if who == "owner" else _worker(node, model)
    calling = None
    if when == "in a restore":
        node.park(model, "parked")
        calling = Thread(target=partial(_try, node, model))
        calling.start()
        time.sleep(ON_THE_WAY_S)
    began_s, told = time.perf_counter(), 0
    os.kill(pid, signal.SIGKILL)
    if victim == "owner, at rest":
        _wait_until_noticed(node, pid)
    while (answer := _try(node, model)) is None:
        told += 1
        if time.perf_counter() - began_s > PATIENCE_S:
            raise RuntimeError(f"{model} is not back {PATIENCE_S:g} s after {victim} was killed")
    back_ms = (time.perf_counter() - began_s) * 1000
    if calling is not None:
        calling.join()
    if answer["strongest"] != right:
        raise RuntimeError(f"{model} answered {answer} after {victim} was killed")
    return back_ms, told


def _settle(node: Node) -> None:
    """Until there are an owner, its heir, and a worker with a context: what is measured is one
    fault."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not ((memory := node.memory()) and memory["heir_pid"] and memory["warm"][0]):
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"no owner, heir and warm worker after {PATIENCE_S:g} s")
        time.sleep(0.05)


def _wait_until_noticed(node: Node, owner_pid: int) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while (memory := node.memory()) and memory["pid"] == owner_pid:
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"nobody noticed within {PATIENCE_S:g} s that the owner had ended")
        time.sleep(0.001)


def _worker(node: Node, model: str) -> int:
    """The process of the only replica."""
    (replica,) = json.loads(request(node.port, "GET", f"/functions/{model}").body)["replicas"]
    pid: int = replica["pid"]
    return pid


def _try(node: Node, model: str) -> Mapping[str, int] | None:
    """The answer, or None for one that tells of a fault."""
    try:
        answer: Mapping[str, int] = node.call(model).answer
    except (RuntimeError, OSError):
        return None
    return answer


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=several(tuple(MODELS)), default=COMPARED_MODELS)
    parser.add_argument("--devices", type=lambda text: text.split(","), default=["cuda:0"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--tiny", action="store_true", help="small models on a stand-in")
    parser.add_argument("--output", type=Path, help="a file in place of benchmarks/results/...")
    options = parser.parse_args()
    if options.tiny:
        options.devices = [STAND_IN]
    return options


if __name__ == "__main__":
    main()
