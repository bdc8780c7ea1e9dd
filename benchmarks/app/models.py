"""Functions over networks of real architectures with random weights.

The weights follow from a seed: a network that is built twice on the same kind of device is the
same, byte for byte. `DSFN_BENCH_TINY=1` makes all so small that a CPU runs them in no time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import TypedDict

import dsfn

PROMPT = (1, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53)
# A long one: its forward pass takes about as long as the weights' way to the GPU.
ESSAY = tuple(n % 251 for n in range(4096))


class Answer(TypedDict):
    """The strongest of a network's outputs, the sum of all, and how long the forward pass took."""

    strongest: int
    total: float
    forward_ms: float


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's sizes. `bias`: of the projections to queries, keys and values."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int
    theta: float
    bias: bool
    tied: bool


# Qwen2.5-0.5B and Llama 3 8B, as their config.json say.
TEXT = Shape(24, 896, 14, 2, 4864, 151_936, 1e6, bias=True, tied=True)
DECODER = Shape(32, 4096, 32, 8, 14_336, 128_256, 5e5, bias=False, tied=False)
SMALL = Shape(2, 64, 4, 2, 128, 256, 1e4, bias=True, tied=True)


class Attention(nn.Module):
    """Causal attention in groups of queries (https://arxiv.org/abs/2305.13245)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.side = shape.width // shape.heads
        self.query = nn.Linear(shape.width, shape.width, bias=shape.bias)
        self.key = nn.Linear(shape.width, shape.kv_heads * self.side, bias=shape.bias)
        self.value = nn.Linear(shape.width, shape.kv_heads * self.side, bias=shape.bias)
        self.out = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """[length, width] -> [length, width]."""
        query, key, value = (
            project(x).view(len(x), -1, self.side).transpose(0, 1)
            for project in (self.query, self.key, self.value)
        )
        query, key = rotate(query, turn), rotate(key, turn)
        found = functional.scaled_dot_product_attention(
            query[None], key[None], value[None], is_causal=True, enable_gqa=True
        )
        mixed: Tensor = self.out(found[0].transpose(0, 1).reshape(len(x), -1))
        return mixed


class Layer(nn.Module):
    """Attention and a gated MLP, each on a normalised input and added to it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention = Attention(shape)
        self.gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)
        self.before = nn.RMSNorm(shape.width, eps=1e-5)
        self.between = nn.RMSNorm(shape.width, eps=1e-5)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """[length, width] -> [length, width]."""
        x = x + self.attention(self.before(x), turn)
        y = self.between(x)
        added: Tensor = x + self.down(functional.silu(self.gate(y)) * self.up(y))
        return added


class Llama(nn.Module):
    """A decoder of the Llama family: token numbers -> logits of the token that follows."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=1e-5)
        self.head = None if shape.tied else nn.Linear(shape.width, shape.vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """[length] -> [vocabulary]."""
        x = self.embedding(tokens)
        side = self.shape.width // self.shape.heads
        turn = rotation(len(tokens), side, self.shape.theta, x)
        for layer in self.layers:
            x = layer(x, turn)
        last = self.embedding.weight if self.head is None else self.head.weight
        return functional.linear(self.norm(x[-1]), last)


def rotation(length: int, side: int, theta: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each position's turns, [length, side] (https://arxiv.org/abs/2104.09864)."""
    halves = torch.arange(0, side, 2, device=like.device, dtype=torch.float32) / side
    places = torch.arange(length, device=like.device, dtype=torch.float32)
    angles = torch.outer(places, theta**-halves).repeat(1, 2)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """[heads, length, side], each pair of numbers turned by its position."""
    left, right = x.chunk(2, -1)
    return x * turn[0] + torch.cat((-right, left), -1) * turn[1]


class Bottleneck(nn.Module):
    """A block of ResNet (https://arxiv.org/abs/1512.03385): to few channels, 3 x 3, and back."""

    def __init__(self, before: int, inner: int, stride: int) -> None:
        super().__init__()
        after = 4 * inner
        self.path = nn.Sequential(
            *convolution(before, inner, 1, 1),
            nn.ReLU(),
            *convolution(inner, inner, 3, stride),
            nn.ReLU(),
            *convolution(inner, after, 1, 1),
        )
        same = stride == 1 and before == after
        self.shortcut = nn.Sequential(*(() if same else convolution(before, after, 1, stride)))

    def forward(self, x: Tensor) -> Tensor:
        """[1, before, h, w] -> [1, after, h / stride, w / stride]."""
        return functional.relu(self.path(x) + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet-50 where `width` is 64: an image -> logits of 1000 classes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = width
        for stage, count in enumerate((3, 4, 6, 3)):
            for index in range(count):
                inner = width << stage
                blocks.append(Bottleneck(before, inner, 2 if stage and not index else 1))
                before = 4 * inner
        self.stem = nn.Sequential(*convolution(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(before, 1000)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [3, 224, 224] -> [1000]."""
        x = self.blocks(self.stem(pixels[None].float() / 127.5 - 1))
        logits: Tensor = self.head(x.mean((2, 3)))[0]
        return logits


def convolution(before: int, after: int, size: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """A convolution that keeps the size but for its stride, and its normalisation."""
    padding = size // 2
    return nn.Conv2d(before, after, size, stride, padding, bias=False), nn.BatchNorm2d(after)


def built(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network on the GPU, if there is one, whose weights follow from `seed`: those of a matrix
    or a convolution normal, with a variance of one over its inputs, all others 0 or 1."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = empty(make).to_empty(device=device)
    chance = torch.Generator(device).manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.dim() > 1:
            tensor.normal_(0, math.prod(tensor.shape[1:]) ** -0.5, generator=chance)
        else:
            tensor.fill_(int(name.endswith(("weight", "running_var"))))
    return network


def empty(make: Callable[[], nn.Module]) -> nn.Module:
    """A network without memory for its weights."""
    with torch.device("meta"):
        return make().eval().requires_grad_(False)


class Forward:
    """A network's forward pass: the first as it is, all others, if it `records`, as the replay of
    a CUDA graph.

    A replica that has just come up has one call to answer, and recording a graph takes longer
    than that. Parking leaves the graph as it is.
    """

    def __init__(self, network: nn.Module, records: bool = True) -> None:
        self._network = network
        self._records = records
        self._device = next(network.parameters()).device
        self._run: Callable[[Tensor], Tensor] = self._essence
        self._calls = 0

    @torch.inference_mode()
    def __call__(self, given: Tensor) -> Answer:
        """Runs the network on something of the CPU's."""
        self._calls += 1
        if self._records and self._calls == 2 and self._device.type == "cuda":
            self._run = recorded(self._essence, given.to(self._device))
        began_ns = perf_counter_ns()
        strongest, total = self._run(given.to(self._device)).tolist()
        forward_ms = (perf_counter_ns() - began_ns) / 1e6
        return {"strongest": int(strongest), "total": total, "forward_ms": forward_ms}

    def _essence(self, given: Tensor) -> Tensor:
        outputs = self._network(given).double()
        return torch.stack((outputs.argmax().double(), outputs.sum()))


def recorded(run: Callable[[Tensor], Tensor], given: Tensor) -> Callable[[Tensor], Tensor]:
    """`run` as the replay of a CUDA graph, for inputs of this shape. It has run before."""
    torch.cuda.synchronize()
    fixed, graph = given.clone(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run(fixed)

    def replay(given: Tensor) -> Tensor:
        fixed.copy_(given)
        graph.replay()
        return out

    return replay


def tiny() -> bool:
    """Whether the networks are only to try everything out."""
    return os.environ.get("DSFN_BENCH_TINY") == "1"


def make_image() -> nn.Module:
    """ResNet-50 in float32: 102 MB."""
    return ResNet(8 if tiny() else 64)


def make_text() -> nn.Module:
    """Qwen2.5-0.5B in bfloat16: 0.99 GB."""
    return Llama(SMALL if tiny() else TEXT).bfloat16()


def make_decoder() -> nn.Module:
    """Llama 3 8B in bfloat16: 16.1 GB."""
    return Llama(SMALL if tiny() else DECODER).bfloat16()


class Model:
    """A network that stays, and its forward pass, which every replica makes for itself."""

    network: nn.Module
    forward: Forward | None = None
    records = True

    def after_restore(self) -> None:
        """Once in a replica's life: what it has recorded outlives being parked."""
        self.forward = self.forward or Forward(self.network, self.records)

    def answer(self, given: Tensor) -> Answer:
        """Runs the network."""
        return (self.forward or Forward(self.network, self.records))(given)


@dsfn.function(name="image", gpu=0.1, max_replicas=1, park_after="1h", remove_after="1h")
class Image(Model):
    """Which of 1000 classes an image of 224 x 224 pixels is."""

    def setup(self) -> None:
        """Builds the network."""
        self.network = built(make_image, seed=1)

    def sample(self) -> dict[str, object]:
        """The pixels of the benchmark's one image: uint8 [3, 224, 224]."""
        return {"pixels": dsfn.Tensor.of(pixels())}

    def __call__(self, pixels: dsfn.Tensor) -> Answer:
        """Classifies it."""
        return self.answer(torch.from_numpy(pixels.numpy()))


@dsfn.function(name="text", gpu=0.1, max_replicas=1, park_after="1h", remove_after="1h")
class Text(Model):
    """The token that follows others, by a network of half a billion parameters."""

    def setup(self) -> None:
        """Builds the network."""
        self.network = built(make_text, seed=2)

    def sample(self) -> dict[str, object]:
        """The benchmark's one prompt."""
        return {"tokens": list(PROMPT)}

    def __call__(self, tokens: list[int]) -> Answer:
        """Finds it."""
        return self.answer(torch.tensor(tokens))


@dsfn.function(name="decoder", gpu=0.5, max_replicas=1, park_after="1h", remove_after="1h")
class Decoder(Model):
    """The token that follows others, by a network of eight billion parameters."""

    def setup(self) -> None:
        """Builds the network."""
        self.network = built(make_decoder, seed=3)

    def sample(self) -> dict[str, object]:
        """The benchmark's one prompt."""
        return {"tokens": list(PROMPT)}

    def __call__(self, tokens: list[int]) -> Answer:
        """Finds it."""
        return self.answer(torch.tensor(tokens))


class Essay(Model):
    """The text network on a long prompt, operation by operation, as without a CUDA graph."""

    records = False

    def setup(self) -> None:
        """Builds the network."""
        self.network = built(make_text, seed=2)

    def sample(self) -> dict[str, object]:
        """The benchmark's long prompt."""
        return {"tokens": list(ESSAY)}

    def __call__(self, tokens: list[int]) -> Answer:
        """Finds the token that follows. That it computes while weights are on their way has to be
        proved, by an answer that is always the same: the time is left out."""
        return {**self.answer(torch.tensor(tokens)), "forward_ms": 0.0}


@dsfn.function(name="overlapped", gpu=0.1, max_replicas=1, park_after="1h", remove_after="1h")
class Overlapped(Essay):
    """It computes while its weights are on their way."""


@dsfn.function(
    name="awaited", gpu=0.1, max_replicas=1, park_after="1h", remove_after="1h", concurrency=2
)
class Awaited(Essay):
    """It waits for all of them, as whatever takes two calls at a time does."""


def pixels() -> Tensor:
    """Noise that is the same everywhere."""
    chance = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 224, 224), dtype=torch.uint8, generator=chance)
