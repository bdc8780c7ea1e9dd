from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from snapshot_app import EmbedClass, Locked
from torch import nn

from dsfn.functions.errors import CaptureError, StorageFull
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.format import MANIFEST_FILE

# Prototype kinds of tensors announce themselves when they are made.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Broken:
    def __reduce__(self) -> str:
        raise ValueError("not today")


class Holder:
    __slots__ = ("inside",)

    def __init__(self, inside: object) -> None:
        self.inside = inside


def module_with_lock() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2))
    setattr(model[0], "extra", Locked())  # noqa: B010  # a module is typed to hold modules
    return model


def weight_norm() -> nn.Module:
    model: nn.Module = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    return model


def endless() -> list[object]:
    inner: list[object] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (Locked, "self.x.lock", "cannot pickle '_thread.lock' object"),
        (lambda: {"a": [1, Locked()]}, "self.x['a'][1].lock", "_thread.lock"),
        (lambda: (x for x in "ab"), "self.x", "cannot pickle 'generator' object"),
        (lambda: lambda: 0, "self.x", "<lambda>"),
        (lambda: partial(print, Locked()), "self.x.args[0].lock", "_thread.lock"),
        (lambda: deque([0, Locked()]), "self.x[1].lock", "_thread.lock"),
        (lambda: Holder(Locked()), "self.x.inside.lock", "_thread.lock"),
        (lambda: [Broken()], "self.x[0]", "not today"),
        (module_with_lock, "self.x.0.extra.lock", "_thread.lock"),
        (weight_norm, "self.x", "parametrized"),
        (lambda: nn.Linear(2, 2, device="meta"), "self.x.weight", "meta device"),
        (lambda: nn.LazyLinear(2), "self.x.weight", "uninitialized"),
        (lambda: torch.eye(2).to_sparse(), "self.x", "sparse"),
        (lambda: [torch.eye(2).to_sparse_csr()], "self.x[0]", "sparse"),
        (lambda: torch.ones(2, dtype=torch.complex64).conj(), "self.x", "conjugated"),
        (lambda: torch.nested.nested_tensor([torch.ones(2)]), "self.x", "nested"),
        (lambda: torch.ones(2).untyped_storage(), "self.x", "bare storage"),
        (endless, "self.x", "nested too deeply"),
    ],
)
def test_what_cannot_be_captured_is_named_by_its_path(
    value: Callable[[], object], path: str, reason: str, staging: Path
) -> None:
    with pytest.raises(CaptureError) as caught:
        capture({"fine": torch.ones(2), "x": value()}, Classes(), staging)
    assert caught.value.fields["path"] == path
    assert reason in str(caught.value.fields["reason"])
    assert path in caught.value.message
    assert not (staging / MANIFEST_FILE).exists()


def test_a_quantized_tensor_is_refused(staging: Path) -> None:
    quantized = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    with pytest.raises(CaptureError, match=r"self\.x: quantized"):
        capture({"x": quantized}, Classes(), staging)


def test_a_socket_of_an_instance_is_named(staging: Path) -> None:
    live = EmbedClass()
    with socket.socket() as connection:
        live.connection = connection
        with pytest.raises(CaptureError, match=r"^self\.connection: cannot pickle 'socket'"):
            capture(live, Classes({"Embed": EmbedClass}), staging)


def test_a_class_hidden_by_a_wrapper_that_nobody_named_is_an_error(staging: Path) -> None:
    with pytest.raises(CaptureError, match=r"self\.x"):
        capture({"x": EmbedClass}, Classes(), staging)


def test_a_full_disk_is_a_clear_error(staging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull):
        capture({"x": torch.ones(2)}, Classes(), staging)
    assert not (staging / MANIFEST_FILE).exists()
