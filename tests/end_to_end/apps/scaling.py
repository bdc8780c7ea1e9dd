"""Functions whose replicas come and go."""

from __future__ import annotations

import os
import random
import time

import torch

import dsfn


@dsfn.function(max_replicas=1, park_after=0.6, remove_after=2.5)
class Napper:
    """Parks soon and goes soon after."""

    def setup(self) -> None:
        self.weights = torch.arange(1000.0)

    def __call__(self) -> float:
        return float(self.weights.sum())


@dsfn.function(min_replicas=1, max_replicas=1, park_after=0.2, remove_after=0.4)
def keeper() -> int:
    """Always there."""
    return os.getpid()


@dsfn.function(max_replicas=4, park_after=1, remove_after=2)
def crowd(seconds: float) -> int:
    """Grows with the number of calls."""
    time.sleep(seconds)
    return os.getpid()


@dsfn.function(min_replicas=10, max_replicas=10)
class Sharers:
    """Ten replicas of 64 MiB of weights."""

    def setup(self) -> None:
        self.weights = torch.ones(16 << 20)

    def __call__(self, seconds: float) -> list[float]:
        total = float(self.weights.sum())
        time.sleep(seconds)
        return [float(os.getpid()), total]


@dsfn.function(max_replicas=2)
class Dice:
    """Draws at random; counts the restores that it has seen."""

    def setup(self) -> None:
        self.kept = torch.rand(4).tolist()
        self.restores = 0

    def after_restore(self) -> None:
        self.restores += 1
        self.after = random.random()

    def __call__(self, seconds: float = 0.0) -> dict[str, object]:
        time.sleep(seconds)
        return {
            "pid": os.getpid(),
            "kept": self.kept,
            "restores": self.restores,
            "after": self.after,
            "python": random.random(),
            "torch": torch.rand(4).tolist(),
        }


class Doubler(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((8,), 2.0))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * self.weight


@dsfn.function(max_replicas=1, park_after=0.2, remove_after=0.4)
class Scripted:
    """Keeps a TorchScript module."""

    def setup(self) -> None:
        self.module = torch.jit.script(Doubler().eval())

    def __call__(self, value: float) -> float:
        with torch.no_grad():
            return float(self.module(torch.full((8,), value)).sum())
