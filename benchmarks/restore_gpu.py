"""From parked to an answer on a GPU, against loading the same weights from files.

    python -m benchmarks.restore_gpu [--layers 3,32,480] [--directory /dev/shm]

The model is a chain of 4096 x 4096 layers in bfloat16. It is captured, held by a memory owner,
and then parked and brought back again and again; every answer is compared bit by bit with that
of the model before its capture. The peers read the same weights from the page cache.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.harness import Machine, Spread, console, save, show
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cuda import CudaMemory
from dsfn.snapshots.format import slab_file
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.memory import OwnedSlab
from dsfn.snapshots.owner.messages import Start
from dsfn.snapshots.restore import restore

WIDTH = 4096
LAYER_BYTES = WIDTH * WIDTH * 2
TENANT = "benchmark"
PICKLE = "weights.pt"

Layers = Sequence[torch.Tensor]


@dataclass(frozen=True, slots=True)
class Round:
    """One way from nothing on the GPU to an answer; milliseconds. Peers only load and forward."""

    answer: float
    load: float
    mapped: float
    copy: float
    forward: float
    park: float


@dataclass(frozen=True, slots=True)
class Row:
    """A system's figures for one model; milliseconds. `floor_ms` is bytes over bandwidth."""

    system: str
    weights_bytes: int
    pinned_bytes_per_s: float
    floor_ms: float
    answer: Spread
    ratio: float
    load: Spread
    mapped: Spread
    copy: Spread
    forward: Spread
    park: Spread


def main() -> None:
    """Measures, prints and saves."""
    options = _options()
    machine = Machine.this()
    gpu = torch.cuda.get_device_name()
    console.print(f"{machine.sentence()}; {gpu}")
    rows: list[Row] = []
    for layers in options.layers:
        found = asyncio.run(_measure(layers, options.directory))
        rows += found
        _show(found)
    settings = {"gpu": gpu, "layers": options.layers}
    console.print(f"Written to {save('restore_gpu', machine, settings, rows)}")


def pinned_bandwidth() -> float:
    """Bytes a second from pinned memory to the GPU, in copies of 1 GiB."""
    size = 1 << 30
    torch.cuda.empty_cache()
    here = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(size, dtype=torch.uint8, device="cuda")
    times = []
    for _ in range(30):
        torch.cuda.synchronize()
        began_ns = perf_counter_ns()
        there.copy_(here, non_blocking=True)
        torch.cuda.synchronize()
        times.append(perf_counter_ns() - began_ns)
    del there
    torch.cuda.empty_cache()
    return size / median(times) * 1e9


async def _measure(count: int, root: Path) -> list[Row]:
    directory = Path(tempfile.mkdtemp(prefix="dsfn-restore-", dir=root))
    repeats = 100 if count <= 32 else 10
    given = torch.randn(1, WIDTH, dtype=torch.bfloat16, device="cuda")
    try:
        expected = _write(count, directory / "snapshot", given)
        # Others share the bus: the faster of two measurements, right before and right after.
        before = pinned_bandwidth()
        ours = await _ours(directory / "snapshot", given, expected, repeats)
        bandwidth = max(before, pinned_bandwidth())
        slab, pickled = directory / "snapshot" / slab_file("gpu:0"), directory / "snapshot" / PICKLE
        peers = {
            "safetensors load_file": lambda: _from_file(slab),
            "torch.load mmap + to": lambda: _from_pickle(pickled),
        }
        theirs = {
            name: _peer(load, given, expected, max(3, repeats // 10))
            for name, load in peers.items()
        }
    finally:
        shutil.rmtree(directory)
    size = count * LAYER_BYTES
    return [_row(name, size, bandwidth, rounds) for name, rounds in {**ours, **theirs}.items()]


def _write(count: int, directory: Path, given: torch.Tensor) -> torch.Tensor:
    """Captures a new model and pickles its weights; what it answers."""
    directory.mkdir()
    torch.manual_seed(count)
    layers = [
        torch.randn(WIDTH, WIDTH, dtype=torch.bfloat16, device="cuda").mul_(WIDTH**-0.5)
        for _ in range(count)
    ]
    expected = forward(layers, given).cpu()
    capture({"layers": layers}, Classes(), directory)
    torch.save({str(n): layer.cpu() for n, layer in enumerate(layers)}, directory / PICKLE)
    del layers
    torch.cuda.empty_cache()
    return expected


def forward(layers: Layers, given: torch.Tensor) -> torch.Tensor:
    """The model."""
    for layer in layers:
        given = torch.nn.functional.linear(given, layer)
    return given


async def _ours(
    directory: Path, given: torch.Tensor, expected: torch.Tensor, repeats: int
) -> dict[str, list[Round]]:
    arena_bytes = (directory / slab_file("gpu:0")).stat().st_size + (64 << 20)
    control = await OwnerControl.start(Start(0, arena_bytes, ["cuda:0"]))
    try:
        console.print(f"owner: {control.facts}")
        await control.load(TENANT, directory)
        memory = CudaMemory(OwnerClient(await control.connect(TENANT)))
        restored = restore(directory, Classes(), {"gpu:0": memory})
        layers: Any = restored.state["layers"]
        slab = restored.slabs["gpu:0"]
        assert isinstance(slab, OwnedSlab)
        console.print(f"first restore, into fresh memory: {slab.timing}")
        forward(layers, given)
        torch.cuda.synchronize()
        graph, fixed = torch.cuda.CUDAGraph(), given.clone()
        with torch.cuda.graph(graph):
            out = forward(layers, fixed)

        def replay() -> torch.Tensor:
            graph.replay()
            return out

        return {
            "dsfn": _rounds(slab, lambda: forward(layers, given), expected, repeats),
            "dsfn, CUDA graph": _rounds(slab, replay, expected, repeats),
        }
    finally:
        await control.stop()


def _rounds(
    slab: OwnedSlab, answer: Callable[[], torch.Tensor], expected: torch.Tensor, repeats: int
) -> list[Round]:
    rounds = []
    for _ in range(repeats + 1):
        parking_ns = perf_counter_ns()
        slab.park()
        began_ns = perf_counter_ns()
        slab.unpark()
        loaded_ns = perf_counter_ns()
        found = answer().cpu()
        ended_ns = perf_counter_ns()
        assert torch.equal(found, expected)
        timing = slab.timing
        rounds.append(
            Round(
                answer=_ms(ended_ns - began_ns),
                load=_ms(loaded_ns - began_ns),
                mapped=timing.mapped_us / 1000,
                copy=timing.copy_us / 1000,
                forward=_ms(ended_ns - loaded_ns),
                park=_ms(began_ns - parking_ns),
            )
        )
    worst = max(rounds[1:], key=lambda each: each.answer)
    console.print(f"slowest: {worst}")
    return rounds[1:]  # the first one warms up


def _peer(
    load: Callable[[], Layers], given: torch.Tensor, expected: torch.Tensor, repeats: int
) -> list[Round]:
    rounds = []
    for _ in range(repeats + 1):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
        began_ns = perf_counter_ns()
        layers = load()
        loaded_ns = perf_counter_ns()
        found = forward(layers, given).cpu()
        ended_ns = perf_counter_ns()
        assert torch.equal(found, expected)
        del layers
        answer, loading = _ms(ended_ns - began_ns), _ms(loaded_ns - began_ns)
        rounds.append(Round(answer, loading, 0, 0, answer - loading, 0))
    return rounds[1:]


def _from_file(path: Path) -> Layers:
    found = load_file(path, device="cuda")
    # Storages that no name fits are named by their number.
    return [found[f"storage.{number}"].view(WIDTH, WIDTH) for number in range(len(found))]


def _from_pickle(path: Path) -> Layers:
    found = torch.load(path, mmap=True, weights_only=True)
    return [found[str(number)].to("cuda") for number in range(len(found))]


def _row(system: str, size: int, bandwidth: float, rounds: Sequence[Round]) -> Row:
    answer, floor_ms = Spread.of([each.answer for each in rounds]), size / bandwidth * 1000
    return Row(
        system=system,
        weights_bytes=size,
        pinned_bytes_per_s=bandwidth,
        floor_ms=floor_ms,
        answer=answer,
        ratio=answer.p50 / floor_ms,
        load=Spread.of([each.load for each in rounds]),
        mapped=Spread.of([each.mapped for each in rounds]),
        copy=Spread.of([each.copy for each in rounds]),
        forward=Spread.of([each.forward for each in rounds]),
        park=Spread.of([each.park for each in rounds]),
    )


def _show(rows: Sequence[Row]) -> None:
    columns = ("ms", "p50", "p99", "x floor", "load", "mapped", "copy", "forward", "park")
    cells = [
        (
            row.system,
            f"{row.answer.p50:.2f}",
            f"{row.answer.p99:.2f}",
            f"{row.ratio:.2f}",
            *(
                f"{spread.p50:.2f}"
                for spread in (row.load, row.mapped, row.copy, row.forward, row.park)
            ),
        )
        for row in rows
    ]
    size, rate = rows[0].weights_bytes / 1e9, rows[0].pinned_bytes_per_s / 1e9
    title = f"{size:.2f} GB of weights, floor {rows[0].floor_ms:.2f} ms at {rate:.1f} GB/s"
    show(title, columns, cells)


def _ms(ns: int) -> float:
    return ns / 1e6


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--layers",
        type=lambda text: [int(number) for number in text.split(",")],
        default=[3, 32, 480],
        help="how many layers of 34 MB the models have",
    )
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
