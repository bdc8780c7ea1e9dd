"""Functions with weights, that tell in their answers whether `setup()` ran for them."""

from __future__ import annotations

import os

import torch

import dsfn


class Weighed:
    def setup(self) -> None:
        self.weights = torch.arange(4_000_000, dtype=torch.float32)
        self.set_up_by = os.getpid()

    def __call__(self) -> dict[str, object]:
        return {
            "sum": float(self.weights.double().sum()),
            "restored": self.set_up_by != os.getpid(),
        }


@dsfn.function(park_after="0.2s", remove_after="0.2s")
class Heavy(Weighed):
    """Goes quickly, so that each call starts from the snapshot."""


@dsfn.function(park_after="0.2s", remove_after="0.2s")
class Other(Weighed):
    def setup(self) -> None:
        super().setup()
        self.weights += 1
