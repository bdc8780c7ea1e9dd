"""How long a restore takes: `python tests/snapshots/bench_restore.py` prints milliseconds.

A model shaped like all-MiniLM-L6-v2 with a vocabulary of 30,522 words, then the same
without the vocabulary. Each round is a forked process, since only the first restore and
the first forward pass of a process are those of a cold start.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from snapshot_app import Transformer, small_transformer

from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.restore import restore

ROUNDS = 20
_TIMES = struct.Struct("ddd")


def replica(directory: Path) -> tuple[float, float, float]:
    """Seconds of the restore, the first and the second forward pass."""
    tokens = torch.arange(16).view(1, 16)
    started = time.perf_counter()
    model = restore(directory, Classes(), {"cpu": CpuMemory()}).state["model"]
    assert isinstance(model, Transformer)
    marks = [started, time.perf_counter()]
    with torch.inference_mode():
        for _ in range(2):
            model(tokens)
            marks.append(time.perf_counter())
    return marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2]


def forked(directory: Path) -> tuple[float, float, float]:
    """`replica` in a process of its own."""
    read, write = os.pipe()
    if not os.fork():
        os.write(write, _TIMES.pack(*replica(directory)))
        os._exit(0)
    os.wait()
    try:
        restored, first, second = _TIMES.unpack(os.read(read, _TIMES.size))
    finally:
        os.close(read)
        os.close(write)
    return restored, first, second


def measure(name: str, state: dict[str, object]) -> None:
    """Prints the medians for one state."""
    with TemporaryDirectory() as text:
        manifest = capture(state, Classes(), Path(text))
        rounds = [forked(Path(text)) for _ in range(ROUNDS)]
    restored, first, second = (median(column) * 1000 for column in zip(*rounds, strict=True))
    sys.stdout.write(
        f"{name}: {len(manifest.tensors)} tensors, slab {manifest.slab_bytes / 1e6:.1f} MB,"
        f" objects {manifest.objects.size_bytes / 1e6:.2f} MB: restore {restored:.2f},"
        f" first forward {first:.2f}, second {second:.2f} ms\n"
    )


def main() -> None:
    """Measures in this process's children; one thread, as a replica of one core has."""
    torch.set_num_threads(1)
    model = Transformer().eval()
    words = {f"word {number}": number for number in range(30522)}
    with TemporaryDirectory() as text:
        capture({"model": small_transformer()}, Classes(), Path(text))
        restore(Path(text), Classes(), {"cpu": CpuMemory()})  # what a first use imports
    measure("with vocabulary", {"model": model, "words": words})
    measure("without", {"model": model})


if __name__ == "__main__":
    main()
