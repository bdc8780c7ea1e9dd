"""Starts from a snapshot; its last number is what it answers with."""

from __future__ import annotations

import torch

import dsfn

NUMBERS = 1 << 20


@dsfn.function(min_replicas=1, max_replicas=1)
class Weights:
    def setup(self) -> None:
        self.ones = torch.ones(NUMBERS)

    def __call__(self) -> float:
        return float(self.ones.double().sum())
