"""A function on a GPU that must not answer while its weights arrive."""

from __future__ import annotations

import ctypes
import math

import torch

import dsfn


@dsfn.function(gpu=1, max_replicas=1, park_after=3600, remove_after=3600)
class Around:
    """Takes an address from where nobody looks, and never ends with a number that is none."""

    def setup(self) -> None:
        self.weight = torch.arange(4.0 * (1 << 20))

    def sample(self) -> dict[str, object]:
        return {"index": 7}

    def __call__(self, index: int) -> float:
        address = torch._C.TensorBase.data_ptr(self.weight) + 4 * index
        number = ctypes.c_float.from_address(address).value
        while math.isnan(number):
            pass
        return number
