"""What tests of functions on GPUs share: three that do not all fit a stand-in, one that has two
GPUs, and what the driver says of a real one."""

from __future__ import annotations

import subprocess
from functools import cache

from apps import gpus, two_gpus
from deadlines import eventually
from live_node import APPS, LiveNode, Table

MIB = 1 << 20
# The functions of apps/gpus.py, 16 MiB each, by the seed of their weights.
SEEDS = {"alpha": 1, "beta": 2, "gamma": 3}
weights = cache(gpus.layers)


def stand_in(size_bytes: int, bytes_per_s: int = 0, warm: int = 0) -> Table:
    """A node's part of the configuration: a device of this size, as fast as it goes with 0, an
    arena that all of them fit, `warm` spare workers, and nothing else taken."""
    return {
        "devices": [f"host:{size_bytes}:{bytes_per_s}"],
        "arena": f"{96 * MIB}B",
        "reserve": "0B",
        "context": "0B",
        "warm": warm,
    }


def expected(name: str, number: float) -> list[float]:
    """What a function answers."""
    return gpus.answer(weights(SEEDS[name]), number)


def resident_bytes(node: LiveNode) -> list[int]:
    """What replicas have of each GPU."""
    return [device["resident_bytes"] for device in node.memory()["devices"]]


def check_that_workers_are_born_ready(node: LiveNode) -> None:
    """Deploys a function that tells what its worker did that every worker has to."""
    described = node.deploy(APPS / "born.py")["born"]
    assert described["snapshot"], described["snapshot_reason"]
    ready = {"total": 1 << 18, "late": [], "unready": []}
    for _ in range(2):
        assert node.value("born") == ready
        node.park("born", "absent")


def check_a_function_on_two_gpus(node: LiveNode) -> None:
    """Deploys one and looks where its weights are, however they come back, on a node of two GPUs
    that nobody else uses."""
    sums = [sum(range(count)) for count in two_gpus.COUNTS]
    described = node.deploy(APPS / "two_gpus.py")["pair"]
    assert described["snapshot"], described["snapshot_reason"]
    for number, rest in enumerate(("parked", "absent", "parked", "frozen"), 2):
        assert node.value("pair", number=number) == [number * each for each in sums]
        assert resident_bytes(node) == [8 * count for count in two_gpus.COUNTS]
        node.park("pair", rest)
        eventually(lambda: resident_bytes(node) == [0, 0], "both to be given back")
    assert node.value("pair", number=1) == sums


def gpu_bytes(what: str) -> int:
    """The first GPU's memory: "total", "used", "free"."""
    return int(asked_of_gpu(f"--query-gpu=memory.{what}")) * MIB


def gpu_processes() -> set[int]:
    """The processes that have memory of the first GPU. In a container the driver may name none."""
    lines = asked_of_gpu("--query-compute-apps=pid").splitlines()
    return {int(line) for line in lines if line.isdecimal()}


def asked_of_gpu(query: str) -> str:
    """What the driver says of the first GPU, without a context for it."""
    command = ["nvidia-smi", "-i", "0", query, "--format=csv,noheader,nounits"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
