"""A model whose weights come from a snapshot, or else from setup()."""

from __future__ import annotations

import os

import torch

import dsfn


@dsfn.function
class Model:
    """Weights, and who has loaded them."""

    def setup(self) -> None:
        self.weights = torch.arange(100_000, dtype=torch.float64)
        self.set_up_by = os.getpid()

    def __call__(self) -> dict[str, float | bool]:
        return {"sum": float(self.weights.sum()), "restored": self.set_up_by != os.getpid()}
