"""A snapshot's file that is changed under replicas that have mapped it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from deadlines import eventually
from live_node import LiveNode, StartNode

APP = """
import dsfn
import torch

NUMBERS = 1 << 20


@dsfn.function(max_replicas=1, park_after=3600, remove_after=3600)
class Total:
    def setup(self) -> None:
        self.ones = torch.ones(NUMBERS)

    def __call__(self) -> float:
        return float(self.ones.double().sum())
"""
TOTAL = float(1 << 20)


@pytest.fixture
def node(start: StartNode, tmp_path: Path) -> LiveNode:
    app = tmp_path / "app.py"
    app.write_text(APP)
    node = start()
    assert node.deploy(app)["total"]["snapshot"]
    assert node.value("total") == TOTAL
    return node


def slab(node: LiveNode) -> Path:
    (found,) = (node.data / "snapshots").glob("*/slab-cpu.safetensors")
    found.chmod(0o644)
    return found


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(b"\x47" * 16)


def truncate(path: Path) -> None:
    os.truncate(path, 8192)


@pytest.mark.parametrize("harm", [flip, truncate])
def test_a_parked_replica_does_not_come_back_into_it(node: LiveNode, harm: object) -> None:
    assert callable(harm)
    (pid,) = node.pids("total")
    node.park("total")
    harm(slab(node))
    assert node.value("total") == TOTAL  # from setup(): there is no store to fetch it from
    assert node.pids("total") != {pid}
    assert "quarantined" in node.log


def test_a_replica_that_is_ready_does_not_stay(node: LiveNode) -> None:
    (pid,) = node.pids("total")
    flip(slab(node))
    eventually(lambda: pid not in node.pids("total"), "it to leave")
    assert node.value("total") == TOTAL


def test_no_call_is_answered_from_it(node: LiveNode) -> None:
    flip(slab(node))
    assert node.value("total") == TOTAL
