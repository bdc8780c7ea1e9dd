"""Peers that keep a process and bring its GPU memory back.

    python -m benchmarks.peers.parked PEER DIRECTORY MODEL:ROUNDS ...

A round goes from no weights on the GPU to an answer on the CPU. Addresses stay, so a CUDA graph
is replayed, as in dsfn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from benchmarks.peers.rounds import Round, run_each

Rounds = Callable[[Path, str, int], Iterator[Round]]


def memory_saver(directory: Path, name: str, count: int) -> Iterator[Round]:
    """https://github.com/fzyzcjy/torch_memory_saver, with its pinned copy kept."""
    from torch_memory_saver import torch_memory_saver as saver

    saver.hook_mode = os.environ.get("MODE", "torch")
    saver.retain_cpu_backup = True
    with saver.region(tag=name, enable_cpu_backup=True):
        ask = loaded(directory, name)
    for _ in range(3):
        ask()
    for _ in range(count + 1):
        saver.pause(name)
        began_ns = perf_counter_ns()
        saver.resume(name)
        loaded_ns = perf_counter_ns()
        answer = ask()
        yield Round.of(began_ns, loaded_ns, perf_counter_ns(), answer)


def driver_checkpoint(directory: Path, name: str, count: int) -> Iterator[Round]:
    """https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__CHECKPOINT.html"""
    from cuda.bindings import driver

    def call(function: Callable[..., Any], *arguments: Any) -> None:
        error = function(*arguments)[0]
        if error != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"{function.__name__}: {error.name}")

    call(driver.cuInit, 0)
    with holder(directory, name) as (pid, ask):
        for _ in range(3):
            ask()
        for _ in range(count + 1):
            call(driver.cuCheckpointProcessLock, pid, None)
            call(driver.cuCheckpointProcessCheckpoint, pid, None)
            began_ns = perf_counter_ns()
            call(driver.cuCheckpointProcessRestore, pid, None)
            call(driver.cuCheckpointProcessUnlock, pid, None)
            loaded_ns = perf_counter_ns()
            answer = ask()
            yield Round.of(began_ns, loaded_ns, perf_counter_ns(), answer)


def loaded(directory: Path, name: str) -> Callable[[], Any]:
    """Loads a model and gives what asks it."""
    from safetensors.torch import load_file

    from benchmarks.app.models import Forward
    from benchmarks.gpu_models import MODELS

    model = MODELS[name]
    forward = Forward(model.holding(load_file(directory / f"{name}.safetensors", device="cuda")))
    given = model.given()
    return lambda: forward(given)


@contextmanager
def holder(directory: Path, name: str) -> Iterator[tuple[int, Callable[[], Any]]]:
    """A process of its own that holds a model: its number, and what asks it."""
    command = [sys.executable, "-m", "benchmarks.peers.parked", "hold", str(directory), name]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None

    def ask() -> Any:
        process.stdin.write(b"\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    try:
        yield process.pid, ask
    finally:
        process.kill()
        process.communicate()


def hold(directory: Path, name: str) -> None:
    """The holder's process: an answer for each line."""
    ask = loaded(directory, name)
    for _ in sys.stdin:
        sys.stdout.write(json.dumps(ask()) + "\n")
        sys.stdout.flush()


PEERS: Mapping[str, Rounds] = {
    "torch-memory-saver": memory_saver,
    "driver-checkpoint": driver_checkpoint,
}


if __name__ == "__main__":
    if sys.argv[1] == "hold":
        hold(Path(sys.argv[2]), sys.argv[3])
    else:
        chosen, place = PEERS[sys.argv[1]], Path(sys.argv[2])
        run_each(sys.argv[3:], lambda name, count: chosen(place, name, count))
