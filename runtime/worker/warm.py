"""What is done ahead, while nobody waits for it.

The fork server rehearses a call, so that what is imported and built on first use is there
in every worker. A fresh fork draws new random numbers and runs torch's usual kernels:
threads do not survive a fork, and pages of code that never ran are not mapped, so that the
first inference of a cold worker takes more than twice as long as that of a warm one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

from dsfn.functions.codec import decode_arguments, encode_result
from dsfn.functions.errors import NotFound
from dsfn.functions.interface import JSON_CONTENT_TYPE
from dsfn.functions.signature import signature_of

Step = Callable[[], object]


def rehearse() -> None:
    """Reads, describes, decodes and encodes once what a function may take and give."""
    signature = signature_of(_specimen)
    signature.prepare()
    signature.interface("")
    arguments = decode_arguments(signature, JSON_CONTENT_TYPE, b'{"text":"a"}', _no_reference)
    encode_result(signature, _specimen(**arguments))  # type: ignore[arg-type]  # as decoded


def _specimen(text: str, numbers: list[float] | None = None) -> dict[str, int]:
    return {text: len(numbers or ())}


def _no_reference(reference: str) -> tuple[bytes, str]:
    raise NotFound(f"There is no {reference}.", kind="blob", name=reference)


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
    """Runs each of torch's usual kernels once, until `stop()` says that work has come."""
    if "torch" not in sys.modules:
        return
    import torch

    with torch.inference_mode():
        for step in _steps():
            if stop():
                break
            step()


def _steps() -> Iterator[Step]:
    import torch
    from torch.nn import functional as nn

    text = torch.ones(1, 16, 384)
    weight = torch.ones(384, 384)
    heads = torch.ones(1, 12, 16, 32)
    picture = torch.ones(1, 3, 32, 32)
    yield lambda: torch.ones(1 << 17).add_(1)  # starts the thread pool
    yield lambda: nn.linear(text, weight, weight[0])
    yield lambda: nn.embedding(torch.zeros(1, 4, dtype=torch.long), weight)
    yield lambda: nn.layer_norm(text, (384,), weight[0], weight[0])
    yield lambda: nn.scaled_dot_product_attention(heads, heads, heads)
    yield lambda: heads @ heads.transpose(-1, -2)
    yield lambda: nn.gelu(text)
    yield lambda: text.softmax(-1)
    yield lambda: nn.normalize(text.mean(1))
    yield lambda: nn.conv2d(picture, torch.ones(32, 3, 3, 3), stride=2)
    yield lambda: nn.conv2d(picture, torch.ones(3, 1, 3, 3), groups=3)
    yield lambda: nn.relu6(nn.adaptive_avg_pool2d(picture, 1))
    yield lambda: nn.batch_norm(picture, *(weight[0, :3],) * 4)
