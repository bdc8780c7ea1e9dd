"""A function of any size, which `many_models` deploys many times, each with a seed of its own."""

from __future__ import annotations

import torch
from torch import nn
from typing_extensions import TypedDict

import dsfn


class Answer(TypedDict):
    """The place of the strongest output, and the sum of all."""

    strongest: int
    total: float


def network(layers: int, width: int) -> nn.Module:
    """Square matrices in bfloat16, one after the other, without memory for their weights."""
    with torch.device("meta"):
        chain = [nn.Linear(width, width, bias=False) for _ in range(layers)]
        return nn.Sequential(*chain).bfloat16().requires_grad_(False)


@torch.inference_mode()
def ask(chain: nn.Module, width: int, number: int) -> Answer:
    """Sends noise that follows from `number` through a network."""
    chance = torch.Generator().manual_seed(number)
    given = torch.randn(1, width, generator=chance)
    weight = next(chain.parameters())
    outputs = chain(given.to(weight.device, weight.dtype)).double()[0]
    strongest, total = torch.stack((outputs.argmax().double(), outputs.sum())).tolist()
    return {"strongest": int(strongest), "total": total}


@dsfn.function(name="chain", gpu=0.05, max_replicas=1, park_after="60s", remove_after="1h")
class Chain:
    """Answers with a number that only its own weights give."""

    seed, layers, width = 0, 4, 64

    def setup(self) -> None:
        """Weights that follow from the seed; the variance stays from layer to layer."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network(self.layers, self.width).to_empty(device=device)
        chance = torch.Generator(device).manual_seed(self.seed)
        for weight in self.network.parameters():
            weight.normal_(0, self.width**-0.5, generator=chance)

    def sample(self) -> dict[str, object]:
        """One of the questions."""
        return {"number": 0}

    def __call__(self, number: int) -> Answer:
        """Answers the question of this number."""
        return ask(self.network, self.width, number)
