"""Lower precision on a GPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dsfn.snapshots.precision import Kind, lower

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no GPU."),
]
WORST = {"int8": 0.02, "fp8": 0.06}


@pytest.mark.parametrize("kind", ["int8", "fp8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_gpu_computes_with_the_weights_that_a_cpu_computes_with(
    kind: Kind, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(500, 64), nn.Linear(64, 256), nn.Flatten(0, 1), nn.Unflatten(1, (4, 8, 8))
    )
    model = nn.Sequential(model, nn.Conv2d(4, 128, 3)).to("cuda", dtype).eval()
    tokens = torch.randint(0, 500, (3, 7), device="cuda")
    with torch.no_grad():
        reference = model(tokens)
        held = torch.cuda.memory_allocated()
        lower({"model": model}, kind)
        assert torch.cuda.memory_allocated() < held
        found = model(tokens)
    assert found.dtype == dtype
    assert float((found - reference).float().norm() / reference.float().norm()) < WORST[kind]
    here = [each.weight for each in model.modules() if hasattr(each, "weight_codes")]
    model.cpu()
    there = [each.weight for each in model.modules() if hasattr(each, "weight_codes")]
    assert len(here) == 3
    assert all(torch.equal(a.cpu(), b) for a, b in zip(here, there, strict=True))
