from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.recorder import FirstUse
from dsfn.snapshots.restore import restore
from dsfn.snapshots.verify import verify


class Backwards(nn.Module):
    """Uses its layers last to first, and never one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(4, 4) for _ in range(4)]
        for number, layer in enumerate(self.layers):
            self.add_module(f"layer{number}", layer)
        self.unused = nn.Linear(4, 4)

    def forward(self, row: torch.Tensor) -> torch.Tensor:
        for layer in reversed(self.layers):
            row = layer(row)
        return row


def recorded(model: nn.Module, row: torch.Tensor) -> tuple[int, ...]:
    recorder = FirstUse()
    with recorder, torch.inference_mode():
        model(row)
    return recorder.addresses


def test_a_slab_is_in_the_order_in_which_a_call_first_uses_it(staging: Path) -> None:
    model = Backwards()
    used = recorded(model, torch.ones(1, 4))
    manifest = capture({"model": model}, Classes(), staging, first_use=used)
    names = [storage.name for storage in manifest.storages]
    layers = [name.split(".")[1] for name in names[:8]]
    assert layers == [f"layer{n}" for n in (3, 3, 2, 2, 1, 1, 0, 0)]
    assert names[8:] == ["model.unused.weight", "model.unused.bias"]
    assert manifest.slabs[0].first_use == 8


def test_the_order_changes_nothing_else(staging: Path) -> None:
    model, row = Backwards(), torch.ones(1, 4)
    places = {id(each): "gpu:0" for each in model.layers[0].parameters()}
    used = recorded(model, row)
    manifest = capture(
        {"model": model, "tied": model.layers[2].weight[1:]},
        Classes(),
        staging,
        first_use=used,
        place=lambda each: places.get(id(each), "cpu"),
    )
    assert [slab.first_use for slab in manifest.slabs] == [6, 2]
    memories = {"cpu": CpuMemory(), "gpu:0": CpuMemory()}
    verify(staging, Classes(), memories)
    found = restore(staging, Classes(), memories).state
    assert torch.equal(found["model"](row), model(row))  # type: ignore[operator]
    assert torch.equal(found["tied"], model.layers[2].weight[1:])  # type: ignore[arg-type]


def test_a_view_is_no_use_and_what_has_no_memory_is_no_harm() -> None:
    weight, sparse = torch.ones(3, 3), torch.eye(3).to_sparse()
    recorder = FirstUse()
    with recorder:
        _ = weight.t(), weight[1:], weight.view(9)
        assert recorder.addresses == ()
        torch.sparse.mm(sparse, weight)
        torch.cat([torch.empty(0), weight])
        torch.ones(2, device="meta").add(1)
        torch.func.vmap(torch.sum)(weight)
    assert weight.untyped_storage().data_ptr() in recorder.addresses
    assert 0 not in recorder.addresses


def test_what_may_be_a_view_and_may_be_a_copy_is_a_use() -> None:
    weight, recorder = torch.ones(3, 3), FirstUse()
    with torch.inference_mode(), recorder:
        weight.to(torch.float64)
    assert recorder.addresses == (weight.data_ptr(),)


def test_scripted_and_compiled_code_runs_under_the_recorder_and_is_seen() -> None:
    row = torch.ones(1, 4)
    model = nn.Linear(4, 4)
    scripted: nn.Module = torch.jit.script(model)
    assert model.weight.data_ptr() in recorded(scripted, row)
    model.compile(backend="eager")
    assert model.weight.data_ptr() in recorded(model, row)
