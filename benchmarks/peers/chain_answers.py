"""What many models answer: each is built, asked every question and forgotten.

python -m benchmarks.peers.chain_answers LAYERS WIDTH MODELS
"""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks.app.chain import Answer, Chain
from benchmarks.traffic import QUESTIONS


def answers(layers: int, width: int, seed: int) -> list[Answer]:
    """Of one model."""
    function: Any = Chain  # mypy takes it for the class that it wraps
    model = function.target()
    model.layers, model.width, model.seed = layers, width, seed
    model.setup()
    return [model(number) for number in range(QUESTIONS)]


if __name__ == "__main__":
    size, count = (int(sys.argv[1]), int(sys.argv[2])), int(sys.argv[3])
    sys.stdout.write(json.dumps([answers(*size, seed) for seed in range(count)]) + "\n")
