"""The models of `coldstart_gpu` as peers see them: a network without weights, and its input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.app import models
from dsfn.functions.function import Function


@dataclass(frozen=True, slots=True)
class Model:
    """One of the functions of `benchmarks/app/models.py`, and the input of its sample."""

    function: Function[..., Any]
    make: Callable[[], torch.nn.Module]
    given: Callable[[], torch.Tensor]

    def built(self) -> torch.nn.Module:
        """Its network as `setup()` makes it."""
        instance: Any = self.function.target()
        instance.setup()
        network: torch.nn.Module = instance.network
        return network

    def holding(self, weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        """Its network over tensors that are in their place already."""
        network = models.empty(self.make)
        network.load_state_dict(weights, assign=True)
        return network


def prompt() -> torch.Tensor:
    """The tokens of the prompt."""
    return torch.tensor(models.PROMPT)


MODELS: Mapping[str, Model] = {
    "image": Model(models.Image, models.make_image, models.pixels),
    "text": Model(models.Text, models.make_text, prompt),
    "decoder": Model(models.Large, models.make_decoder, prompt),
}
