from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.restore import restore
from dsfn.snapshots.verify import verify

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


class Scaled(nn.Module):
    """Has a parameter, a buffer that it writes to, and a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.calls = nn.Buffer(torch.zeros(1))

    def forward(self, row: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        hidden: torch.Tensor = self.second(self.first(row)) * self.calls
        return hidden


def traced(model: nn.Module) -> Any:
    return torch.jit.trace(model, torch.ones(1, 4), check_trace=False)  # type: ignore[no-untyped-call]


class Outer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


def restored_from(state: dict[str, Any], staging: Path) -> dict[str, Any]:
    capture(state, Classes(), staging)
    verify(staging, Classes(), {"cpu": CpuMemory()})
    return restore(staging, Classes(), {"cpu": CpuMemory()}).state


@pytest.mark.parametrize(
    "script",
    [torch.jit.script, traced],
    ids=["scripted", "traced"],
)
def test_a_torchscript_module_comes_back_and_the_live_one_is_as_before(
    script: Callable[[nn.Module], Any], staging: Path
) -> None:
    live = script(Scaled().eval())
    row = torch.randn(2, 4)
    live(row)
    found = restored_from({"nested": [Outer(live)]}, staging)["nested"][0].inner
    assert float(found.calls) == float(live.calls) > 0
    assert torch.equal(found(row), live(row))
    assert [p.requires_grad for p in found.parameters()] == [True] * 3
    assert found.first.weight.data_ptr() == found.second.weight.data_ptr()


def test_weights_of_a_torchscript_module_are_in_the_slab_under_their_names(staging: Path) -> None:
    live = torch.jit.script(nn.Linear(512, 512))
    manifest = capture({"model": live}, Classes(), staging)
    assert [storage.name for storage in manifest.storages] == ["model.weight", "model.bias"]
    assert manifest.objects.size_bytes < 20_000


def test_a_torchscript_module_shares_its_weights_with_the_python_side(staging: Path) -> None:
    live = torch.jit.script(nn.Linear(4, 4))
    found = restored_from({"model": live, "weight": live.weight}, staging)
    with torch.no_grad():
        found["weight"].fill_(3)
    assert torch.equal(found["model"].weight, torch.full((4, 4), 3.0))
    assert not torch.equal(live.weight, found["weight"])


def test_a_torchscript_function_comes_back(staging: Path) -> None:
    @torch.jit.script
    def double(row: torch.Tensor) -> torch.Tensor:
        return row * 2

    found = restored_from({"double": double}, staging)["double"]
    assert found(torch.ones(1)).item() == 2


def test_silero_vad_comes_back(staging: Path, require: Callable[[str, str], None]) -> None:
    require("silero_vad", "install dsfn[library]")
    spec = importlib.util.find_spec("silero_vad")
    assert spec is not None and spec.origin is not None
    archive = Path(spec.origin).parent / "data" / "silero_vad.jit"
    live = torch.jit.load(archive, "cpu").eval()  # type: ignore[no-untyped-call]
    found = restored_from({"model": live}, staging)["model"]
    torch.manual_seed(0)
    for model in (live, found):
        model.reset_states()
    for _ in range(4):
        chunk = torch.randn(1, 512)
        assert torch.equal(live(chunk, 16_000), found(chunk, 16_000))
