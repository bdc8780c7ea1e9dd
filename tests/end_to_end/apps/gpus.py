"""Functions that want a GPU, or what stands in for one."""

from __future__ import annotations

import os
import time

import torch

import dsfn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WIDTH = 1024
LAYERS = 4  # of 4 MiB each


def layers(seed: int) -> list[torch.Tensor]:
    """The weights of one of the models."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(WIDTH, WIDTH, generator=generator) / 32 for _ in range(LAYERS)]


def answer(weights: list[torch.Tensor], number: float) -> list[float]:
    """What a model makes of a number."""
    x = torch.full((1, WIDTH), float(number), device=weights[0].device)
    for layer in weights:
        x = torch.tanh(x @ layer)
    return [round(value, 3) for value in x[0, :4].tolist()]


class _Weights:
    seed = 0

    def setup(self) -> None:
        self.layers = [layer.to(DEVICE) for layer in layers(self.seed)]


class _Model(_Weights):
    def __call__(self, number: float, seconds: float = 0) -> list[float]:
        time.sleep(seconds)
        return answer(self.layers, number)


@dsfn.function(gpu=1, max_replicas=1, park_after=3600, remove_after=3600)
class Alpha(_Model):
    """16 MiB."""

    seed = 1


@dsfn.function(gpu=1, max_replicas=1, park_after=3600, remove_after=3600)
class Beta(_Model):
    """16 MiB."""

    seed = 2


@dsfn.function(gpu=1, max_replicas=1, park_after=3600, remove_after=3600)
class Gamma(_Model):
    """16 MiB."""

    seed = 3


@dsfn.function(gpu=1, max_replicas=1, park_after=0.3, remove_after=3600)
class Sleeper(_Weights):
    """Parks soon."""

    seed = 4

    def __call__(self, number: float) -> list[float]:
        return [float(os.getpid()), *answer(self.layers, number)]
