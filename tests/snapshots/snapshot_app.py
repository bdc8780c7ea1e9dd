"""A user's module: a deployed class behind its wrapper, and what it is made of."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import nn

from dsfn.functions.function import function


class Pooling(Enum):
    MEAN = "mean"
    MAX = "max"


@dataclass
class Vocabulary:
    words: dict[str, int]
    rare: set[str] = field(default_factory=set)


class Locked:
    def __init__(self) -> None:
        self.lock = threading.Lock()


class Tagged(torch.Tensor):
    """A tensor class of the user's own."""


class Transformer(nn.Module):
    """Shaped like all-MiniLM-L6-v2: an embedding and `layers` encoder layers."""

    def __init__(self, words: int = 30522, width: int = 384, layers: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 12, 4 * width, batch_first=True)
            for _ in range(layers)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.embedding(tokens)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


def small_transformer() -> Transformer:
    torch.manual_seed(0)
    return Transformer(words=50, width=24, layers=2).eval()


@function
def shout(text: str) -> str:
    return text.upper()


@function
class Embed:
    """Refers to itself, to its own nested class and to another function's wrapper."""

    class Settings:
        def __init__(self, pooling: Pooling) -> None:
            self.pooling = pooling

    def setup(self) -> None:
        self.settings = self.Settings(Pooling.MEAN)
        self.model = small_transformer()
        self.me = self
        self.bound = self.pool
        self.kind = type(self)
        self.helper = shout
        self.torch = torch

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.mean(dim=1)

    def __call__(self, text: str) -> list[float]:
        tokens = torch.tensor([[ord(letter) % 50 for letter in text]])
        with torch.inference_mode():
            vector: list[float] = self.bound(self.model(tokens))[0].tolist()
        return vector


_wrapper: Any = Embed  # type checkers take a decorated class for the class itself
EmbedClass: Any = _wrapper.target
