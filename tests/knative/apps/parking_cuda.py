"""A function on a real GPU that parks soon, and says which process has answered, and which one has
run its `setup()`."""

from __future__ import annotations

import os

import torch

import dsfn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
COUNT = 128 << 20  # of 4 bytes each


@dsfn.function(gpu=0.5, max_replicas=1, park_after=2, remove_after=3600)
class Sleeper:
    """512 MiB of weights: more than what a driver keeps a little longer, or rounds."""

    def setup(self) -> None:
        self.weights = torch.arange(COUNT, dtype=torch.int32, device=DEVICE)
        self.made_by = os.getpid()

    @torch.inference_mode()
    def __call__(self, number: int) -> dict[str, object]:
        found = int(self.weights.sum(dtype=torch.int64)) * number
        return {
            "pid": os.getpid(),
            "made_by": self.made_by,
            "device": self.weights.device.type,
            "sum": found,
        }
