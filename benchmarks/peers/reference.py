"""What every peer starts from: the models' weights as files, and what they answer.

    python -m benchmarks.peers.reference DIRECTORY image text

Writes MODEL.safetensors, MODEL.pt and at last MODEL.json, the answer of the model that was just
built.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.app.models import Forward
from benchmarks.gpu.models import MODELS


def write(name: str, directory: Path) -> None:
    """Builds a model, asks it once and writes its files."""
    network = MODELS[name].built()
    answer = Forward(network)(MODELS[name].given())
    weights = {key: tensor.cpu() for key, tensor in network.state_dict().items()}
    save_file(weights, directory / f"{name}.safetensors", {"format": "pt"})
    torch.save(weights, directory / f"{name}.pt")
    (directory / f"{name}.json").write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    for model in sys.argv[2:]:
        write(model, Path(sys.argv[1]))
