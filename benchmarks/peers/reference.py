"""What every peer starts from: what the models answer, and their weights as files.

    python -m benchmarks.peers.reference DIRECTORY answers image text
    python -m benchmarks.peers.reference DIRECTORY weights image text

Writes MODEL.safetensors and MODEL.pt where weights are wanted, and at last MODEL.json, the answer
of the model that was just built.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.app.models import Forward
from benchmarks.gpu.models import MODELS


def write(name: str, directory: Path, with_weights: bool) -> None:
    """Builds a model, asks it once and writes its files."""
    network = MODELS[name].built()
    answer = Forward(network)(MODELS[name].given())
    if with_weights:
        weights = {key: tensor.cpu() for key, tensor in network.state_dict().items()}
        save_file(weights, directory / f"{name}.safetensors", {"format": "pt"})
        torch.save(weights, directory / f"{name}.pt")
    (directory / f"{name}.json").write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    for model in sys.argv[3:]:
        write(model, Path(sys.argv[1]), with_weights=sys.argv[2] == "weights")
