"""What a fresh fork does while nobody waits for it: new random numbers, warm kernels.

Threads do not survive a fork, and pages of code that never ran are not mapped: the first
inference of a cold worker takes more than twice as long as that of a warm one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from dsfn.runtime.worker.devices import Devices, has_torch
from dsfn.runtime.worker.rehearsal import scenes

if TYPE_CHECKING:
    import torch

Step = Callable[[], object]


def reseed() -> None:
    """Gives this process random numbers of its own. `random` reseeds itself after a fork."""
    seed = int.from_bytes(os.urandom(8), "little")
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed(seed & 0xFFFF_FFFF)
    if "torch" in sys.modules:
        import torch

        torch.default_generator.manual_seed(seed & 0x7FFF_FFFF_FFFF_FFFF)


def warm_up(stop: Callable[[], bool]) -> None:
    """Runs what calls are made of once, until `stop()` says that work has come."""
    steps = scenes() if "torch" not in sys.modules else chain(scenes(), _kernels())
    for step in steps:
        if stop():
            return
        step()


def warm_gpu(devices: Devices) -> None:
    """Makes a context on the chosen GPU and loads the libraries that most models use there, which
    together takes longer than bringing a gigabyte of weights."""
    if not devices.on_cuda or not has_torch():
        return
    import torch

    with torch.inference_mode():
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            _run_text(dtype)
            _run_picture(dtype)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


def _run_text(dtype: torch.dtype) -> None:
    """What transformers are made of, a short and a long text of them."""
    import torch
    from torch.nn import functional as nn

    table = torch.ones(256, 1024, dtype=dtype, device="cuda")
    weight = torch.ones(1024, 1024, dtype=dtype, device="cuda")
    for length in (1, 16, 512):
        tokens = torch.zeros(1, length, dtype=torch.long, device="cuda")
        text = nn.embedding(tokens, table)
        text = nn.rms_norm(nn.layer_norm(text, (1024,)), (1024,))
        heads = nn.linear(text, weight, weight[0]).view(1, length, 16, 64).transpose(1, 2)
        turn = _rotation(length, dtype)
        heads = heads * turn[0] + torch.cat((-heads[..., 32:], heads[..., :32]), dim=-1) * turn[1]
        causal = length > 1
        nn.scaled_dot_product_attention(heads, heads, heads, is_causal=causal)
        few = heads[:, :4].contiguous()
        found = nn.scaled_dot_product_attention(heads, few, few, is_causal=causal, enable_gqa=True)
        mixed = nn.linear(found.transpose(1, 2).reshape(length, 1024), weight) + text[0]
        _choose(nn.silu(mixed) * nn.gelu(mixed))


def _rotation(length: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotary positions, as most decoders have them."""
    import torch

    halves = torch.arange(0, 64, 2, device="cuda", dtype=torch.float32) / 64
    places = torch.arange(length, device="cuda", dtype=torch.float32)
    angles = torch.outer(places, 10000.0**-halves).repeat(1, 2)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _choose(logits: torch.Tensor) -> None:
    """What is done with the last layer's outputs, in the precisions in which it is done."""
    import torch

    for scores in (logits, logits.float(), logits.double()):
        chosen = torch.stack((scores.argmax().to(scores), scores.sum(), scores.mean()))
        chosen.add_(scores.square().mean(-1).rsqrt()[0]).tolist()
        scores.softmax(-1).topk(2)


# The bottlenecks of ResNet-50 by their side, input, inner and output channels: what cuDNN has
# found out for a convolution is good for that shape alone.
_BOTTLENECKS = (
    (56, 64, 64, 256),
    (56, 256, 128, 512),
    (28, 512, 256, 1024),
    (14, 1024, 512, 2048),
)


def _run_picture(dtype: torch.dtype) -> None:
    """The convolutions that most vision models have, from an image to its classes."""
    import torch
    from torch.nn import functional as nn

    def ones(*shape: int) -> torch.Tensor:
        return torch.ones(shape, dtype=dtype, device="cuda")

    pixels = torch.zeros(1, 3, 224, 224, dtype=torch.uint8, device="cuda")
    picture = pixels.float().div(127.5).sub(1).to(dtype)
    nn.conv2d(picture, ones(768, 3, 16, 16), None, 16)
    picture = nn.max_pool2d(nn.relu(nn.conv2d(picture, ones(64, 3, 7, 7), None, 2, 3)), 3, 2, 1)
    for side, before, inner, after in _BOTTLENECKS:
        given, stride = ones(1, before, side, side), 1 if before == 64 else 2
        narrow = nn.conv2d(given, ones(inner, before, 1, 1))
        less = nn.conv2d(narrow, ones(inner, inner, 3, 3), None, stride, 1)
        stay, wide = ones(after), nn.conv2d(less, ones(after, inner, 1, 1))
        shortcut = nn.conv2d(given, ones(after, before, 1, 1), None, stride)
        out = nn.relu(nn.batch_norm(wide, stay, stay, stay, stay) + shortcut)
        nn.conv2d(nn.conv2d(out, ones(inner, after, 1, 1)), ones(inner, inner, 3, 3), None, 1, 1)
        nn.conv2d(less, ones(inner, 1, 3, 3), None, 1, 1, 1, inner)
    _choose(nn.linear(nn.adaptive_avg_pool2d(out, 1).flatten(1), ones(1000, 2048)))
    out.mean((2, 3))


def _kernels() -> Iterator[Step]:
    """The kernels of torch whose first run was seen to lengthen a first inference."""
    import torch
    from torch.nn import functional as nn

    # Starts the thread pool, and leaves the heap pages that a restore and a call would fault in.
    yield lambda: torch.ones(1 << 20).add_(1)
    text, weight = torch.ones(1, 16, 384), torch.ones(384, 384)
    yield lambda: nn.linear(text, weight, weight[0])
    yield lambda: nn.layer_norm(text, (384,), weight[0], weight[0])
    heads = torch.ones(1, 12, 16, 32)
    yield lambda: nn.scaled_dot_product_attention(heads, heads, heads)
    yield lambda: nn.gelu(text)
    yield lambda: nn.normalize(text.mean(1))
    picture = torch.ones(1, 3, 32, 32)
    yield lambda: nn.conv2d(picture, torch.ones(32, 3, 3, 3), stride=2)
    yield lambda: nn.conv2d(picture, torch.ones(3, 1, 3, 3), groups=3)
