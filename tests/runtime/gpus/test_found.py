"""Which GPUs a node finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsfn.runtime.gpus import found
from dsfn.runtime.gpus.found import find_gpus


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /dev with two GPUs, and the bindings there."""
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(found, "find_spec", lambda name: name)
    return tmp_path


def test_every_gpu_is_found(files: Path) -> None:
    assert find_gpus(None, files).devices == ("cuda:0", "cuda:1")


def test_those_that_are_hidden_are_not(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert find_gpus(None, files).devices == ("cuda:0",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_gpus(None, files).devices == ()


def test_without_the_bindings_there_are_none_and_it_says_how_to_get_them(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found, "find_spec", lambda name: None)
    assert "pip install 'dsfn[cuda]'" in find_gpus(None, files).why_none


def test_a_machine_without_any_says_so(tmp_path: Path) -> None:
    assert find_gpus(None, tmp_path).why_none == "this machine has none"


def test_the_configuration_has_the_last_word(files: Path) -> None:
    assert find_gpus((), files).devices == ()
    assert find_gpus(("cuda:1",), files).devices == ("cuda:1",)
