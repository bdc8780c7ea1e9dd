"""What GPUs a benchmark has, and how fast their links to pinned memory are.

    python -m benchmarks.gpu.links cuda:0 cuda:1

A process of its own measures, so that none of the others has a context on any GPU. A stand-in
("host:BYTES:BYTES_PER_S") is as fast as its name says.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from time import perf_counter_ns

from benchmarks.harness import ROOT

SIZE_BYTES = 1 << 30
REPEATS = 20
MEASURE_S = 120.0


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs in order, and bytes a second from pinned memory: the first alone, all at once.
    `memory_bytes` is of the first."""

    names: list[str]
    driver: str
    memory_bytes: int
    one_link_bytes_per_s: float
    all_links_bytes_per_s: float

    def better(self, other: Gpus) -> Gpus:
        """With the faster of two measurements of each: others share the bus."""
        return replace(
            self,
            one_link_bytes_per_s=max(self.one_link_bytes_per_s, other.one_link_bytes_per_s),
            all_links_bytes_per_s=max(self.all_links_bytes_per_s, other.all_links_bytes_per_s),
        )


def measure(devices: Sequence[str]) -> Gpus:
    """Raises `RuntimeError` with what the process said when it failed."""
    kind, *numbers = devices[0].split(":")
    if kind == "host":
        size_bytes, rate = map(int, numbers)
        return Gpus(list(devices), "none", size_bytes, rate, rate * len(devices))
    command = (sys.executable, "-m", "benchmarks.gpu.links", *devices)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=MEASURE_S)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return Gpus(**json.loads(done.stdout.splitlines()[-1]))


def _measured(devices: Sequence[str]) -> Gpus:
    import torch

    query = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    smi = subprocess.run(query, capture_output=True, text=True, check=True, timeout=MEASURE_S)
    return Gpus(
        names=[torch.cuda.get_device_name(device) for device in devices],
        driver=smi.stdout.splitlines()[0],
        memory_bytes=torch.cuda.get_device_properties(devices[0]).total_memory,
        one_link_bytes_per_s=_rate(devices[:1]),
        all_links_bytes_per_s=_rate(devices),
    )


def _rate(devices: Sequence[str]) -> float:
    """Bytes a second to all of these at once."""
    import torch

    pairs = [
        (
            torch.empty(SIZE_BYTES, dtype=torch.uint8, pin_memory=True),
            torch.empty(SIZE_BYTES, dtype=torch.uint8, device=device),
        )
        for device in devices
    ]
    times = []
    for _ in range(REPEATS):
        began_ns = perf_counter_ns()
        for here, there in pairs:
            there.copy_(here, non_blocking=True)
        for device in devices:
            torch.cuda.synchronize(device)
        times.append(perf_counter_ns() - began_ns)
    return len(devices) * SIZE_BYTES / median(times[1:]) * 1e9


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_measured(sys.argv[1:]))) + "\n")
