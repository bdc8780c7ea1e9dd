from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, weight_norm

from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.precision import Kind, lower
from dsfn.snapshots.restore import restore
from dsfn.snapshots.verify import verify

RoundTrip = Callable[[Mapping[str, object]], dict[str, object]]
KINDS: tuple[Kind, ...] = ("int8", "fp8")
WORST = {"int8": 0.01, "fp8": 0.05}
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Tied(nn.Module):
    """A language model in miniature: the head's weight is the embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(500, 64, padding_idx=0)
        self.head = nn.Linear(64, 500, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(tokens)
        scores: torch.Tensor = self.head(hidden)
        return scores + functional.linear(hidden, self.embedding.weight)


class OwnForward(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return functional.linear(input, self.weight * 2, self.bias)


class OwnName(nn.Linear):
    """Torch's but in name."""


def mlp() -> tuple[nn.Module, torch.Tensor]:
    layers = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 64))
    return layers, torch.randn(5, 128)


def convolutions() -> tuple[nn.Module, torch.Tensor]:
    layers: Any = nn.Sequential(nn.Conv2d(3, 64, 5), nn.ReLU(), nn.Conv2d(64, 64, 3, groups=4))
    return layers.to(memory_format=torch.channels_last), torch.randn(2, 3, 16, 16)


def in_one_dimension_and_three() -> tuple[nn.Module, torch.Tensor]:
    layers = nn.Sequential(
        nn.Conv1d(16, 64, 9), nn.Unflatten(1, (4, 16, 1)), nn.Conv3d(4, 32, (4, 1, 9))
    )
    return layers, torch.randn(2, 16, 40)


def tied() -> tuple[nn.Module, torch.Tensor]:
    return Tied(), torch.randint(0, 500, (3, 7))


def attention() -> tuple[nn.Module, torch.Tensor]:
    layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
    return layer, torch.randn(2, 9, 64)


MAKERS = (mlp, convolutions, in_one_dimension_and_three, tied, attention)


def off_by(reference: torch.Tensor, found: torch.Tensor) -> float:
    reference, found = reference.detach().double(), found.detach().double()
    return float((found - reference).norm() / reference.norm())


def linear(rows: int = 64, columns: int = 64) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(rows, columns)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", MAKERS)
def test_answers_are_close_and_come_back_exactly(
    make: Any, kind: Kind, staging: Path, round_trip: RoundTrip
) -> None:
    model, given = make()
    model.eval()
    with torch.no_grad():
        reference = model(given)
        lower({"model": model}, kind)
        lowered = model(given)
        assert 0 < off_by(reference, lowered) < WORST[kind]
        restored: Any = round_trip({"model": model})["model"]
        assert torch.equal(restored(given), lowered)
        assert torch.equal(copy.deepcopy(model)(given), lowered)
    verify(staging, Classes(), {"cpu": CpuMemory()})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_take_a_byte_an_element_and_compute_in_the_dtype_that_they_had(
    kind: Kind, dtype: torch.dtype, tmp_path: Path
) -> None:
    model = nn.Sequential(nn.Linear(256, 1024), nn.Linear(1024, 256)).to(dtype)
    given = torch.randn(3, 256).to(dtype)
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    captured = capture({"model": model}, Classes(), before)
    found = lower({"model": model}, kind)
    lowered = capture({"model": model}, Classes(), after)
    assert captured.slabs[0].size_bytes / lowered.slabs[0].size_bytes == pytest.approx(
        dtype.itemsize, rel=0.05
    )
    elements, biases = 2 * 256 * 1024, 1280 * dtype.itemsize
    assert found.bytes_before == elements * dtype.itemsize + biases
    assert found.bytes_after == elements + 4 * 1280 + biases
    assert found.kept_bytes == biases
    assert model(given).dtype == model[0].weight.dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_is_its_codes_times_the_scale_of_the_row(kind: Kind) -> None:
    module = linear()
    with torch.no_grad():
        module.weight[3] = 0
        module.weight[5] *= 1000
    exact = module.weight.detach().clone()
    lower({"module": module}, kind)
    step = exact.abs().amax(1, keepdim=True) / (254 if kind == "int8" else 28)
    assert bool(((module.weight - exact).abs() <= step * 1.0001).all())
    assert torch.allclose(module.weight.abs().amax(1), exact.abs().amax(1), rtol=1e-6, atol=0)
    assert not module.weight.requires_grad


def test_a_tied_weight_is_lowered_once_and_stays_tied(round_trip: RoundTrip) -> None:
    model = Tied()
    found = lower({"model": model}, "int8")
    assert found.bytes_after == 500 * 64 + 500 * 4
    restored: Any = round_trip({"model": model})["model"]
    for each in (model, restored):
        assert each.head.weight_codes is each.embedding.weight_codes
        assert torch.equal(each.head.weight, each.embedding.weight)


def test_an_embedding_makes_the_rows_that_are_asked_for() -> None:
    for kind in KINDS:
        module = nn.Embedding(500, 64)
        lower({"module": module}, kind)
        tokens = torch.tensor([[1, 499], [7, 1]], dtype=torch.int32)
        assert torch.equal(module(tokens), module.weight[tokens])
        bounded = nn.Embedding(500, 64, max_norm=1.0)
        lower({"module": bounded}, kind)
        assert bool((bounded(tokens).norm(dim=-1) < 1.001).all())


def test_modules_are_found_wherever_they_are() -> None:
    class Holder:
        def __init__(self, module: nn.Module) -> None:
            self.module = module

    modules = [linear() for _ in range(5)]
    own: Any = nn.Module()
    own.plain = [modules[4]]  # in no list that torch knows of
    lower(
        {
            "dict": {"a": (modules[0],)},
            "holder": Holder(modules[1]),
            "bound": modules[2].forward,
            "partial": partial(modules[3], None),
            "own": own,
        },
        "int8",
    )
    assert all("weight_codes" in module._buffers for module in modules)


def test_modules_stay_the_objects_that_they_are_with_hooks_and_attributes(
    round_trip: RoundTrip,
) -> None:
    module: Any = OwnName(64, 64).eval()
    module.tag = "mine"
    seen: list[torch.Size] = []
    module.register_forward_hook(lambda _, __, output: seen.append(output.shape))
    state = {"first": module, "again": [module]}
    lower(state, "int8")
    assert state["first"] is module and isinstance(module, OwnName)
    module(torch.zeros(2, 64))
    assert (seen, module.tag, module.training) == ([torch.Size([2, 64])], "mine", False)
    module._forward_hooks.clear()  # a lambda is in no snapshot
    restored: Any = round_trip(state)
    assert restored["first"] is restored["again"][0]
    assert (restored["first"].tag, isinstance(restored["first"], OwnName)) == ("mine", True)


def _infinite() -> nn.Module:
    module = linear()
    with torch.no_grad():
        module.weight[9, 9] = float("inf")
    return module


def _too_large() -> nn.Module:
    module = linear().double()
    with torch.no_grad():
        module.weight[0, 0] = 1e300
    return module


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of the old weight norm, which people have
@pytest.mark.parametrize(
    "make",
    [
        _infinite,
        _too_large,
        lambda: linear(8, 8),
        lambda: nn.LayerNorm(8192),
        lambda: OwnForward(64, 64),
        lambda: weight_norm(linear()),
        lambda: parametrizations.weight_norm(linear()),
        lambda: torch.jit.script(linear()),
        lambda: nn.LSTM(64, 64),
        lambda: nn.Linear(64, 64, device="meta"),
    ],
)
def test_what_cannot_be_lowered_stays_as_it_is(make: Any) -> None:
    module = make()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = lower({"module": module}, "int8")
    assert (found.bytes_after, found.kept_bytes) == (found.bytes_before, found.bytes_before)
    after = module.state_dict()
    assert list(after) == list(before)
    if not any(value.is_meta for value in after.values()):
        assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_weight_that_something_else_holds_stays() -> None:
    model, free = linear(), linear()
    found = lower({"model": model, "rows": [model.weight[:2]], "free": free}, "int8")
    assert isinstance(model._parameters["weight"], nn.Parameter)
    assert "weight_codes" in free._buffers
    assert found.kept_bytes == model.weight.nbytes + 2 * 64 * 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_lowered_model_can_change_its_dtype(kind: Kind) -> None:
    model = nn.Sequential(linear(), linear())
    lower({"model": model}, kind)
    codes = model[0].weight_codes
    halves = copy.deepcopy(model).bfloat16()
    given = torch.randn(3, 64)
    assert halves(given.bfloat16()).dtype == torch.bfloat16
    assert halves[0].weight_codes.dtype == codes.dtype
    assert halves[0].weight_scales.dtype == torch.float32
    assert off_by(model(given), halves(given.bfloat16()).float()) < 0.01


def test_gradients_reach_the_input() -> None:
    module = linear()
    lower({"module": module}, "int8")
    given = torch.randn(2, 64, requires_grad=True)
    module(given).sum().backward()
    assert given.grad is not None and bool(given.grad.any())


def test_lowering_again_changes_nothing() -> None:
    module = linear()
    lower({"module": module}, "int8")
    codes = module.weight_codes
    found = lower({"module": module}, "fp8")
    assert module.weight_codes is codes
    assert found.kept_bytes == found.bytes_before == found.bytes_after


def test_a_slab_shows_codes_and_scales_by_name(staging: Path) -> None:
    module = linear()
    state = {"model": nn.Sequential(module)}
    lower(state, "fp8")
    manifest = capture(state, Classes(), staging)
    shown = {each.name: (each.dtype, each.shape) for each in manifest.storages}
    assert shown["model.0.weight_codes"] == ("F8_E4M3", (64, 64))
    assert shown["model.0.weight_scales"] == ("F32", (64, 1))
    restored: Any = restore(staging, Classes(), {"cpu": CpuMemory()}).state["model"]
    assert torch.equal(restored[0].weight, module.weight)
