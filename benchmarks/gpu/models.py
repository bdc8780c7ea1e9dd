"""The models of `coldstart_gpu`: what is deployed, what is sent, and what peers have instead."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.app import models
from dsfn.functions.parts import Tensor


@dataclass(frozen=True, slots=True)
class Model:
    """One of the functions of `benchmarks/app/models.py`, and the input of its sample."""

    function: Any  # a Function, which mypy takes for the class that it wraps
    make: Callable[[], torch.nn.Module]
    given: Callable[[], torch.Tensor]

    def built(self) -> torch.nn.Module:
        """Its network as `setup()` makes it."""
        instance: Any = self.function.target()
        instance.setup()
        network: torch.nn.Module = instance.network
        return network

    def empty(self) -> torch.nn.Module:
        """Its network without memory for the weights."""
        return models.empty(self.make)

    def size_bytes(self) -> int:
        """Of its weights."""
        return sum(tensor.nbytes for tensor in self.empty().state_dict().values())

    def request(self) -> tuple[bytes, str]:
        """A call's body and content type."""
        given = self.given()
        if given.dtype == torch.uint8:
            return Tensor.of(given).encoded(), Tensor.content_type
        return json.dumps({"tokens": given.tolist()}).encode(), "application/json"


def prompt() -> torch.Tensor:
    """The tokens of the prompt."""
    return torch.tensor(models.PROMPT)


def essay() -> torch.Tensor:
    """The tokens of the long prompt."""
    return torch.tensor(models.ESSAY)


MODELS: Mapping[str, Model] = {
    "image": Model(models.Image, models.make_image, models.pixels),
    "text": Model(models.Text, models.make_text, prompt),
    "decoder": Model(models.Decoder, models.make_decoder, prompt),
    "overlapped": Model(models.Overlapped, models.make_text, essay),
    "awaited": Model(models.Awaited, models.make_text, essay),
}
# Those that peers and all states are compared on; the others are there for their parked state.
COMPARED_MODELS = ("image", "text", "decoder")
