"""A function with 64 MB of weights, which its pods restore from a snapshot."""

from __future__ import annotations

import torch

import dsfn

_ROWS = 4096


@dsfn.function(park_after=6, remove_after=6)
class Weigh:
    """Multiplies by a matrix."""

    def setup(self) -> None:
        """Makes what a model's file would bring."""
        generator = torch.Generator().manual_seed(7)
        self.matrix = torch.rand(_ROWS, _ROWS, generator=generator)

    def __call__(self, row: int) -> float:
        """The sum of a row."""
        return float(self.matrix[row % _ROWS].sum())
