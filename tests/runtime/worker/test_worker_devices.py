"""Which GPUs a worker shows CUDA."""

from __future__ import annotations

import os

import pytest

from dsfn.runtime.worker.devices import Devices, visible
from dsfn.runtime.worker.messages import Gpu


def test_a_worker_that_chooses_again_sees_the_same_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # which is undone in the end
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    seen = []
    for _ in ("to be warmed up", "as a replica"):
        Devices.choose((Gpu(1, "cuda:1"),), None)
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["1", "1"]


def test_numbers_count_what_the_node_itself_may_see() -> None:
    assert visible(["cuda:1", "cuda:0"], "6,GPU-8932f937") == "GPU-8932f937,6"
    assert visible(["host:1:0"], "6") == ""
