"""A process that holds a loaded model and answers a line of JSON for each line that it gets.

python -m benchmarks.peers.holder DIRECTORY MODEL
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch
from safetensors.torch import load_file

from benchmarks.app.models import Answer, Forward
from benchmarks.gpu.models import MODELS

Ask = Callable[[], Answer]
DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"


def loaded(directory: Path, name: str) -> Ask:
    """Loads a model and gives what asks it."""
    network, given = MODELS[name].empty(), MODELS[name].given()
    weights = load_file(directory / f"{name}.safetensors", device=DEVICE)
    network.load_state_dict(weights, assign=True)
    forward = Forward(network)
    return lambda: forward(given)


@contextmanager
def holder(directory: Path, name: str) -> Iterator[tuple[int, Ask]]:
    """Such a process: its number, and what asks it."""
    command = (sys.executable, "-m", "benchmarks.peers.holder", str(directory), name)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process.pid, _asker(process.stdin, process.stdout)
    finally:
        process.kill()
        process.communicate()


def _asker(there: IO[str], back: IO[str]) -> Ask:
    def ask() -> Answer:
        there.write("\n")
        there.flush()
        line = back.readline()
        if not line:
            raise RuntimeError("the process that holds the model has ended")
        answer: Answer = json.loads(line)
        return answer

    return ask


if __name__ == "__main__":
    answer = loaded(Path(sys.argv[1]), sys.argv[2])
    for _ in sys.stdin:
        sys.stdout.write(json.dumps(answer()) + "\n")
        sys.stdout.flush()
