"""A function that wants two GPUs: for machines that have them."""

from __future__ import annotations

import torch

import dsfn

COUNT = 4 << 20  # of 8 bytes each


@dsfn.function(gpu=2, max_replicas=1, park_after=3600, remove_after=3600)
class Pair:
    """32 MiB on either."""

    def setup(self) -> None:
        self.first = torch.arange(COUNT, device="cuda:0")
        self.second = torch.arange(COUNT, 2 * COUNT, device="cuda:1")

    def __call__(self, number: int) -> list[int]:
        return [int((each * number).sum()) for each in (self.first, self.second)]
