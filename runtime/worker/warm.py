"""What a fresh fork does while nobody waits for it: new random numbers, warm kernels.

Threads do not survive a fork, and pages of code that never ran are not mapped: the first
inference of a cold worker takes more than twice as long as that of a warm one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from itertools import chain

from dsfn.runtime.worker.devices import Devices, has_torch
from dsfn.runtime.worker.rehearsal import scenes

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
    from torch.nn import functional as nn

    for dtype in (torch.bfloat16, torch.float32):
        square = torch.ones(64, 64, dtype=dtype, device="cuda")
        nn.linear(square, square, square[0])
        heads = square.view(1, 1, 64, 64)
        nn.scaled_dot_product_attention(heads, heads, heads)
        nn.conv2d(heads, heads[:, :, :3, :3])
        nn.gelu(nn.layer_norm(square, (64,))).float().argmax().item()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


def _kernels() -> Iterator[Step]:
    """The kernels of torch whose first run was seen to lengthen a first inference."""
    import torch
    from torch.nn import functional as nn

    yield lambda: torch.ones(1 << 17).add_(1)  # starts the thread pool
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
