"""Calls that run while the weights of their function arrive, on a stand-in for a GPU."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import httpx
import pytest
from apps.arriving import LAYERS
from deadlines import eventually
from live_node import APPS, LiveNode, StartNode, Table

MIB = 1 << 20
SLAB_BYTES = LAYERS * 4 * MIB


@pytest.fixture
def node(start: StartNode) -> Iterator[LiveNode]:
    """A node whose bus takes a second for a slab."""
    gpu: Table = {
        "devices": [f"host:{64 * MIB}:{16 * MIB}"],
        "arena": f"{96 * MIB}B",
        "reserve": "0B",
        "context": "0B",
    }
    node = start(gpu=gpu, setup_timeout_s=10)
    yield node
    assert node.stop() == 0, node.log
    assert "Traceback" not in node.log, node.log


def arrived_bytes(node: LiveNode) -> int:
    arrived: int = node.memory()["links"][0]["own_bytes"]
    return arrived


def test_a_proved_function_answers_before_its_weights_are_there(node: LiveNode) -> None:
    node.deploy(APPS / "arriving.py")
    assert node.describe("early")["snapshot"]["streams"] is True
    before = arrived_bytes(node)
    assert node.value("early", layer=0) == 0.0
    assert arrived_bytes(node) < before + SLAB_BYTES
    assert node.value("early", layer=3) == 3.0
    assert arrived_bytes(node) == before + SLAB_BYTES
    node.park("early")
    before = arrived_bytes(node)
    assert node.value("early", layer=1) == 1.0
    assert arrived_bytes(node) < before + SLAB_BYTES


def test_the_phases_of_a_call_tell_how_long_it_waited_for_weights(node: LiveNode) -> None:
    node.deploy(APPS / "arriving.py")
    waited = phases_ms(node.call("early", layer=3))
    assert waited["execute.weights"] > 100
    assert waited["execute"] >= waited["execute.weights"]
    (cold,) = node.http.get("/functions/early/timeline").json()["calls"]
    assert cold["phases_us"]["execute.weights"] > 100_000
    assert "execute.weights" not in phases_ms(node.call("early", layer=3))


def phases_ms(answer: httpx.Response) -> dict[str, float]:
    entries = answer.headers["server-timing"].split(", ")
    return {name: float(ms) for name, _, ms in (entry.partition(";dur=") for entry in entries)}


def test_a_proof_that_hangs_is_a_no(node: LiveNode) -> None:
    node.deploy(APPS / "around.py")
    assert node.describe("around")["snapshot"]["streams"] is False
    before = arrived_bytes(node)
    assert node.value("around", index=5) == 5.0
    assert arrived_bytes(node) == before + SLAB_BYTES


def test_weights_that_stop_coming_fail_the_call_and_the_next_one_is_right(node: LiveNode) -> None:
    node.deploy(APPS / "arriving.py")
    assert node.value("early", layer=0) == 0.0
    os.kill(node.memory()["pid"], signal.SIGKILL)
    lost = node.call("early", layer=3)
    assert lost.status_code == 503
    assert lost.json()["type"].endswith("replica-lost")
    eventually(lambda: node.call("early", layer=3).json() == 3.0, "another replica to answer")
