"""One function that wants a GPU, or what stands in for one."""

from __future__ import annotations

import torch

import dsfn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WIDTH = 1024
LAYERS = 4  # of 4 MiB each


def layers() -> list[torch.Tensor]:
    """The model's weights."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(WIDTH, WIDTH, generator=generator) / 32 for _ in range(LAYERS)]


def answer(weights: list[torch.Tensor], number: float) -> list[float]:
    """What the model makes of a number."""
    x = torch.full((1, WIDTH), float(number), device=weights[0].device)
    for layer in weights:
        x = torch.tanh(x @ layer)
    return [round(value, 3) for value in x[0, :4].tolist()]


@dsfn.function(gpu=1, max_replicas=1, park_after=3600, remove_after=3600)
class Alpha:
    """16 MiB."""

    def setup(self) -> None:
        self.layers = [layer.to(DEVICE) for layer in layers()]

    def __call__(self, number: float) -> list[float]:
        return answer(self.layers, number)
