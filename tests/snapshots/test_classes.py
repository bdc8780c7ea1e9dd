from __future__ import annotations

from pathlib import Path

import pytest
import snapshot_app
import torch
from snapshot_app import EmbedClass, shout

from dsfn.functions.errors import SnapshotError
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.restore import restore

CLASSES = Classes({"Embed": EmbedClass, "shout": shout.target})


class Slotted:
    __slots__ = ("me", "weight")

    def __init__(self, weight: torch.Tensor) -> None:
        self.me = self
        self.weight = weight


def test_an_instance_of_a_decorated_class_comes_back_with_what_it_says_of_itself(
    staging: Path,
) -> None:
    live = EmbedClass()
    live.setup()
    capture(live, CLASSES, staging)
    instance = EmbedClass.__new__(EmbedClass)
    restored = restore(staging, CLASSES, {"cpu": CpuMemory()}, instance)
    assert instance.me is instance
    assert instance.kind is EmbedClass
    assert type(instance.settings) is EmbedClass.Settings
    assert instance.helper is shout
    assert instance.torch is torch
    assert instance("hello") == live("hello")
    assert restored.state["model"] is instance.model


def test_slots_are_attributes_too(staging: Path) -> None:
    live = Slotted(torch.ones(2))
    capture(live, CLASSES, staging)
    instance = Slotted.__new__(Slotted)
    restore(staging, CLASSES, {"cpu": CpuMemory()}, instance)
    assert torch.equal(instance.weight, torch.ones(2))
    assert instance.me is instance


def test_plain_functions_behind_wrappers_are_named_too(staging: Path) -> None:
    capture({"f": shout.target, "g": shout}, CLASSES, staging)
    state = restore(staging, CLASSES, {"cpu": CpuMemory()}).state
    assert state == {"f": shout.target, "g": shout}


def test_a_state_that_needs_its_instance_is_not_restored_without(staging: Path) -> None:
    live = EmbedClass()
    live.me = live
    capture(live, CLASSES, staging)
    with pytest.raises(SnapshotError, match="its own instance"):
        restore(staging, CLASSES, {"cpu": CpuMemory()})


def test_code_that_is_gone_is_named(staging: Path) -> None:
    capture({"f": EmbedClass}, CLASSES, staging)
    with pytest.raises(SnapshotError, match="'Embed'"):
        restore(staging, Classes(), {"cpu": CpuMemory()})


def test_a_class_that_the_module_no_longer_has_is_named(
    staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture({"pooling": snapshot_app.Pooling.MAX}, CLASSES, staging)
    monkeypatch.delattr(snapshot_app, "Pooling")
    with pytest.raises(SnapshotError, match="Pooling"):
        restore(staging, CLASSES, {"cpu": CpuMemory()})


def test_only_what_is_behind_a_wrapper_has_a_name() -> None:
    assert CLASSES.name_of(EmbedClass) == "Embed"
    assert CLASSES.name_of(EmbedClass.pool) == "Embed.pool"
    assert CLASSES.name_of(snapshot_app.Pooling) is None
    assert CLASSES.name_of("Embed") is None
    assert CLASSES.resolve("Embed.Settings") is EmbedClass.Settings
