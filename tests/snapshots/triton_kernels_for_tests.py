"""A kernel of Triton, launched in both ways that there are."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 1024


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def _double(source, target, count, block: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * block + tl.arange(0, block)
    tl.store(target + at, tl.load(source + at, mask=at < count) * 2, mask=at < count)


def doubled(source: torch.Tensor) -> torch.Tensor:
    """Twice the source."""
    target = torch.empty_like(source)
    _double[(source.numel() // BLOCK,)](source, target, source.numel(), BLOCK)
    return target


def doubled_by_compiled(source: torch.Tensor) -> torch.Tensor:
    """The same by a kernel that was compiled before."""
    target = torch.empty_like(source)
    kernel = _double.warmup(source, target, source.numel(), BLOCK, grid=(1,))
    kernel[(source.numel() // BLOCK, 1, 1)](source, target, source.numel(), BLOCK)
    return target
