"""A model that writes into its own weights when it is asked to, on each kind of device."""

from __future__ import annotations

import time

import torch

import dsfn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
COUNT = 1 << 20


class Model:
    """4 MiB, whose answer is their sum."""

    device = "cpu"

    def setup(self) -> None:
        self.weights = torch.ones(COUNT, device=self.device)

    def __call__(self, spoil: bool = False, wait_s: float = 0) -> float:
        time.sleep(wait_s)
        if spoil:
            self.weights[COUNT // 2] += 1
        return float(self.weights.sum())


@dsfn.function(name="on-gpu", gpu=1, max_replicas=1, park_after=3600, remove_after=3600)
class OnGpu(Model):
    """On a GPU, or what stands in for one."""

    device = DEVICE


@dsfn.function(name="on-cpu", max_replicas=1, park_after=3600, remove_after=3600)
class OnCpu(Model):
    """Mapped from the file."""


@dsfn.function
def plain() -> int:
    """Without any weights."""
    return 1
