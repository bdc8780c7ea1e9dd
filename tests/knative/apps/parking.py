"""A function on a GPU that parks soon, and says which process has answered."""

from __future__ import annotations

import os

import torch

import dsfn

COUNT = 4 << 20  # of 4 bytes each


@dsfn.function(gpu=0.5, max_replicas=1, park_after=2, remove_after=3600)
class Sleeper:
    """16 MiB of weights."""

    def setup(self) -> None:
        self.weights = torch.arange(COUNT, dtype=torch.int32)

    def __call__(self, number: int) -> dict[str, int]:
        found = int((self.weights.to(torch.int64) * number).sum())
        return {"pid": os.getpid(), "sum": found}
