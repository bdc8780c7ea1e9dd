"""A function that wants two GPUs, or what stands in for them."""

from __future__ import annotations

import torch

import dsfn

DEVICES = ("cuda:0", "cuda:1") if torch.cuda.is_available() else ("cpu", "cpu")
COUNTS = (4 << 20, 2 << 20)  # of 8 bytes each


@dsfn.function(gpu=2, max_replicas=1, park_after=3600, remove_after=3600)
class Pair:
    """32 MiB on the one, 16 MiB on the other."""

    def setup(self) -> None:
        self.first = torch.arange(COUNTS[0], device=DEVICES[0])
        self.second = torch.arange(COUNTS[1], device=DEVICES[1])

    def __call__(self, number: int) -> list[int]:
        return [int((each * number).sum()) for each in (self.first, self.second)]
