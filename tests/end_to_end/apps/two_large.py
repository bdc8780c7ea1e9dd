"""Two functions whose weights take a GPU's bus a while: for machines that have one."""

from __future__ import annotations

import time

import torch

import dsfn

WIDTH = 8192
LAYERS = 24  # of 128 MiB each


class _Model:
    seed = 0

    def setup(self) -> None:
        generator = torch.Generator("cuda").manual_seed(self.seed)
        self.layers = [
            torch.randn(WIDTH, WIDTH, generator=generator, device="cuda").div_(90).bfloat16()
            for _ in range(LAYERS)
        ]

    @torch.inference_mode()
    def __call__(self, number: float, seconds: float = 0) -> list[float]:
        time.sleep(seconds)
        x = torch.full((WIDTH, 1), float(number), device="cuda", dtype=torch.bfloat16)
        for layer in self.layers:
            x = torch.tanh(layer @ x)
        return [round(value, 2) for value in x[:4, 0].tolist()]


@dsfn.function(gpu=1, max_replicas=1, park_after=3600, remove_after=3600)
class Alpha(_Model):
    """3 GiB, and calls that run while they come: that needs a sample."""

    seed = 1

    def sample(self) -> dict[str, object]:
        return {"number": 1}


@dsfn.function(gpu=1, max_replicas=1, park_after=3600, remove_after=3600)
class Beta(_Model):
    """3 GiB, and calls that wait until they have come."""

    seed = 2
