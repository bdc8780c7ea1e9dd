"""Lower precision on a GPU."""

from __future__ import annotations

from typing import Any

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
    model: Any = nn.Sequential(
        nn.Embedding(500, 64), nn.Linear(64, 256), nn.Flatten(0, 1), nn.Unflatten(1, (4, 8, 8))
    )
    model = nn.Sequential(model, nn.Conv2d(4, 128, 3)).to("cuda", dtype).eval()
    weights = [model[0][0], model[0][1], model[1]]
    tokens = torch.randint(0, 500, (3, 7), device="cuda")
    with torch.no_grad():
        reference = model(tokens)
        held = torch.cuda.memory_allocated()
        lower({"model": model}, kind)
        assert torch.cuda.memory_allocated() < held
        found = model(tokens)
    assert found.dtype == dtype
    assert float((found - reference).float().norm() / reference.float().norm()) < WORST[kind]
    here = [each.weight for each in weights]
    model.cpu()
    assert all("weight_codes" in each._buffers for each in weights)
    assert all(torch.equal(a.cpu(), b.weight) for a, b in zip(here, weights, strict=True))
