"""A function on a GPU that answers while its weights arrive."""

from __future__ import annotations

import torch

import dsfn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAYERS = 4  # of 4 MiB each


@dsfn.function(gpu=1, max_replicas=1, park_after=3600, remove_after=3600)
class Early:
    """Uses one layer a call."""

    def setup(self) -> None:
        self.layers = [torch.full((1 << 20,), float(n), device=DEVICE) for n in range(LAYERS)]

    def sample(self) -> dict[str, object]:
        return {"layer": 1}

    def __call__(self, layer: int) -> float:
        return self.layers[layer][-1].item()
