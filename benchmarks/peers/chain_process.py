"""One model in one process: a line of JSON for each number that comes in, after a first one.

python -m benchmarks.peers.chain_process WEIGHTS.safetensors
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.app.chain import ask, network


def main(path: Path) -> None:
    """Loads the weights, which are named after a function's attribute, and answers."""
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    found = load_file(path, device=device)
    weights = {name.partition(".")[2]: tensor for name, tensor in found.items()}
    width = next(iter(weights.values())).shape[0]
    chain = network(len(weights), width)
    chain.load_state_dict(weights, assign=True)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(ask(chain, width, int(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
