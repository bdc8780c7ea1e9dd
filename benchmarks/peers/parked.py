"""Peers that keep a process and bring its GPU memory back.

    python -m benchmarks.peers.parked PEER DIRECTORY MODEL:ROUNDS ...

A round goes from no weights on the GPU to an answer on the CPU. Addresses stay, so the answer is
the replay of a CUDA graph, as in dsfn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from benchmarks.peers.holder import holder, loaded
from benchmarks.peers.rounds import Round, after_first, run_each

Rounds = Callable[[Path, str, int], Iterator[Round]]
WARM_UP = 3


def memory_saver(directory: Path, name: str, count: int) -> Iterator[Round]:
    """With its pinned copy kept from one pause to the next.

    https://github.com/fzyzcjy/torch_memory_saver
    """
    saver = _saver()
    with saver.region(tag=name, enable_cpu_backup=True):
        ask = loaded(directory, name)
    for _ in range(WARM_UP):
        ask()
    for _ in range(count):
        saver.pause(name)
        began_ns = perf_counter_ns()
        saver.resume(name)
        loaded_ns = perf_counter_ns()
        answer = ask()
        yield Round.of(began_ns, loaded_ns, perf_counter_ns(), answer)


@cache
def _saver() -> Any:
    """What may be set once in a process."""
    from torch_memory_saver import torch_memory_saver as saver

    saver.hook_mode = "torch"
    saver.retain_cpu_backup = True
    return saver


def driver_checkpoint(directory: Path, name: str, count: int) -> Iterator[Round]:
    """https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__CHECKPOINT.html"""
    from dsfn.snapshots.owner.driver import call, driver

    call(driver.cuInit, 0)
    with holder(directory, name) as (pid, ask):
        for _ in range(WARM_UP):
            ask()
        for _ in range(count):
            call(driver.cuCheckpointProcessLock, pid, None)
            call(driver.cuCheckpointProcessCheckpoint, pid, None)
            began_ns = perf_counter_ns()
            call(driver.cuCheckpointProcessRestore, pid, None)
            call(driver.cuCheckpointProcessUnlock, pid, None)
            loaded_ns = perf_counter_ns()
            answer = ask()
            yield Round.of(began_ns, loaded_ns, perf_counter_ns(), answer)


PEERS: Mapping[str, Rounds] = {
    "torch-memory-saver": memory_saver,
    "driver-checkpoint": driver_checkpoint,
}


if __name__ == "__main__":
    chosen, place = PEERS[sys.argv[1]], Path(sys.argv[2])
    run_each(sys.argv[3:], lambda name, count: after_first(chosen(place, name, count + 1)))
