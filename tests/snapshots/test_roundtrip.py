from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from snapshot_app import Pooling, Tagged, Vocabulary, small_transformer
from torch import nn

from dsfn.functions.errors import CaptureError
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.format import ITEM_BYTES, slab_file
from dsfn.snapshots.restore import restore
from dsfn.snapshots.verify import verify

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf:UserWarning")

SLAB_FILE = slab_file("cpu")
DTYPES = [getattr(torch, name) for name in ITEM_BYTES if hasattr(torch, name)]


def restored_from(state: dict[str, Any]) -> dict[str, Any]:
    """Captured into two slabs, both of this machine's memory."""
    memories = {"cpu": CpuMemory(), "gpu:1": CpuMemory()}
    with TemporaryDirectory() as directory:
        capture(state, Classes(), Path(directory), place=somewhere)
        verify(Path(directory), Classes(), memories)
        return restore(Path(directory), Classes(), memories).state


def somewhere(tensor: torch.Tensor) -> str:
    """One of two slabs."""
    return "cpu" if tensor.storage_offset() else "gpu:1"


def raw(tensor: torch.Tensor) -> list[int]:
    return list(bytes(tensor.detach().untyped_storage().tolist()))  # type: ignore[no-untyped-call]


def shape_of(tensor: torch.Tensor) -> tuple[Any, ...]:
    return (
        tensor.dtype,
        tensor.shape,
        tensor.stride(),
        tensor.storage_offset(),
        tensor.requires_grad,
        type(tensor),
    )


def groups(keys: list[int]) -> list[int]:
    """Which of `keys` are equal, whatever they are."""
    return [keys.index(key) for key in keys]


@st.composite
def tensors(draw: st.DrawFn) -> list[torch.Tensor]:
    """Tensors that share a few storages: views of any dtype, stride and offset, or empty."""
    storages = [
        torch.frombuffer(bytearray(draw(st.binary(min_size=16, max_size=200))), dtype=torch.uint8)
        for _ in range(draw(st.integers(1, 4)))
    ]
    made: list[torch.Tensor] = []
    for _ in range(draw(st.integers(0, 8))):
        if draw(st.booleans()) and made:
            made.append(draw(st.sampled_from(made)))
            continue
        storage = draw(st.sampled_from(storages)).untyped_storage()
        dtype = draw(st.sampled_from(DTYPES))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        stride = [draw(st.integers(0, 3)) for _ in shape]
        span = 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        room = storage.nbytes() // dtype.itemsize - span
        if room < 0:
            continue
        tensor = torch.empty(0, dtype=dtype)
        tensor.set_(storage, draw(st.integers(0, room)), shape, stride)
        grad = dtype.is_floating_point and draw(st.booleans())
        made.append(nn.Parameter(tensor, grad) if draw(st.booleans()) else tensor)
    return made


@settings(max_examples=100, deadline=None)
@given(tensors())
def test_any_views_of_any_storages_come_back_with_what_they_share(made: list[torch.Tensor]) -> None:
    found = restored_from({"made": made})["made"]
    assert [shape_of(t) for t in found] == [shape_of(t) for t in made]
    assert [raw(t) for t in found] == [raw(t) for t in made]
    assert groups([id(t) for t in found]) == groups([id(t) for t in made])
    assert groups([t.untyped_storage().data_ptr() for t in found]) == groups(
        [t.untyped_storage().data_ptr() for t in made]
    )


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 12))
def test_any_tree_of_modules_computes_the_same_and_keeps_tied_weights(
    choose: random.Random, size: int
) -> None:
    layers: list[nn.Module] = [nn.Linear(6, 6)]
    for _ in range(size):
        made: nn.Module = choose.choice(
            [nn.Linear(6, 6), nn.LayerNorm(6), nn.Sequential(*choose.sample(layers, 1))]
        )
        if (
            isinstance(made, nn.Linear)
            and isinstance(layers[0], nn.Linear)
            and choose.random() < 0.5
        ):
            made.weight = layers[0].weight
        layers.append(made)
    model = nn.Sequential(*layers).eval().to(choose.choice([torch.float32, torch.bfloat16]))
    found = restored_from({"model": model})["model"]
    row = torch.randn(2, 6).to(next(model.parameters()).dtype)
    assert torch.equal(found(row), model(row))
    ties = [
        groups([id(p) for _, p in m.named_parameters(remove_duplicate=False)])
        for m in (model, found)
    ]
    assert ties[0] == ties[1]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back(dtype: torch.dtype) -> None:
    made = torch.frombuffer(bytearray(range(64)), dtype=torch.uint8).view(dtype)
    found = restored_from({"made": made})["made"]
    assert found.dtype == dtype
    assert raw(found) == raw(made)


def test_a_state_without_tensors_has_no_slab_and_a_tensor_without_bytes_comes_back() -> None:
    assert restored_from({}) == {}
    assert restored_from({"n": 1, "empty": torch.empty(0, 3)})["empty"].shape == (0, 3)


def test_a_slab_is_there_for_each_device_with_tensors(staging: Path) -> None:
    def place(tensor: torch.Tensor) -> str:
        return "cpu" if len(tensor) < 3 else f"gpu:{len(tensor)}"

    shared = torch.arange(12)
    state = {"b": torch.zeros(12), "c": torch.ones(2), "a": torch.zeros(4), "d": [shared[:2]]}
    manifest = capture({**state, "e": shared}, Classes(), staging, place=place)
    assert [slab.device for slab in manifest.slabs] == ["cpu", "gpu:4", "gpu:12"]
    files = {"slab-cpu.safetensors", "slab-gpu4.safetensors", "slab-gpu12.safetensors"}
    assert {*manifest.files()} == files | {"objects.pkl"}
    assert {path.name for path in staging.iterdir()} == {*manifest.files(), "manifest.json"}
    memories = {device: CpuMemory() for device in ("gpu:12", "cpu", "gpu:4", "gpu:0")}
    restored = restore(staging, Classes(), memories)
    assert list(restored.slabs) == ["cpu", "gpu:4", "gpu:12"]
    assert manifest.storages[manifest.tensors[3].storage].slab == 0, "as the first view of it"
    assert torch.equal(restored.state["e"], shared)  # type: ignore[arg-type]


def test_a_tensor_is_not_placed_where_no_slab_can_be(staging: Path) -> None:
    with pytest.raises(CaptureError, match="no slab for a tensor on gpu:16"):
        capture({"x": torch.ones(1)}, Classes(), staging, place=lambda _: "gpu:16")


def test_objects_of_the_users_module_come_back() -> None:
    words = Vocabulary({"a": 1}, {"b"})
    found = restored_from({"words": words, "pooling": Pooling.MAX, "again": words})
    assert found["words"] == words
    assert found["words"] is found["again"]
    assert found["pooling"] is Pooling.MAX


def test_attributes_and_classes_of_tensors_come_back() -> None:
    weight = nn.Parameter(torch.ones(3))
    vars(weight)["owner"] = [weight]
    tagged = torch.arange(3).as_subclass(Tagged)
    buffer = nn.Buffer(torch.zeros(2), persistent=False)
    found = restored_from({"weight": weight, "tagged": tagged, "buffer": buffer})
    assert type(found["weight"]) is nn.Parameter
    assert vars(found["weight"])["owner"][0] is found["weight"]
    assert type(found["tagged"]) is Tagged
    assert found["tagged"].tolist() == [0, 1, 2]
    assert isinstance(found["buffer"], nn.Buffer)


def test_arrays_over_one_memory_share_one_storage() -> None:
    array = np.arange(8.0)
    found = restored_from({"a": torch.from_numpy(array), "b": torch.from_numpy(array)})
    found["a"][0] = 5
    assert found["b"][0] == 5


def test_the_captured_model_goes_on_computing_the_same_and_can_be_trained(staging: Path) -> None:
    model = small_transformer()
    tokens = torch.arange(10).view(1, 10)
    before = model(tokens)
    pointers = [p.data_ptr() for p in model.parameters()]
    capture({"model": model}, Classes(), staging)
    assert [p.data_ptr() for p in model.parameters()] == pointers
    assert torch.equal(model(tokens), before)
    found: Any = restore(staging, Classes(), {"cpu": CpuMemory()}).state["model"]
    found(tokens).sum().backward()
    torch.optim.SGD(found.parameters(), lr=1.0).step()
    assert not torch.equal(found(tokens), before)
    assert torch.equal(model(tokens), before)


def test_the_slab_is_a_safetensors_file_with_the_models_own_names(staging: Path) -> None:
    model = small_transformer()
    manifest = capture({"model": model}, Classes(), staging)
    with safe_open(staging / SLAB_FILE, "pt") as slab:
        for name, parameter in model.named_parameters():
            assert torch.equal(slab.get_tensor(f"model.{name}"), parameter)
        pads = [name for name in slab.keys() if name.startswith("__pad.")]
        assert not any(slab.get_tensor(name).any() for name in pads)
    assert manifest.slabs[0].data_offset % 4096 == 0
    assert all(storage.offset % 64 == 0 for storage in manifest.storages)


@settings(max_examples=30, deadline=None)
@given(tensors())
def test_safetensors_reads_every_slab(made: list[torch.Tensor]) -> None:
    with TemporaryDirectory() as directory:
        state = {"made": made, "storage": {"0": 1}}
        manifest = capture(state, Classes(), Path(directory), place=somewhere)
        for index, entry in enumerate(manifest.slabs):
            with safe_open(Path(directory) / entry.file, "pt") as slab:
                for storage in manifest.storages:
                    if storage.slab == index:
                        assert tuple(slab.get_tensor(storage.name).shape) == storage.shape
