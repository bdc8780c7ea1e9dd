"""Functions that share too little memory, of a GPU or of the arena, and what happens to those that
wait for it."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from apps import gpus
from deadlines import eventually
from live_node import APPS, Document, LiveNode, StartNode, Table

MIB = 1 << 20
SEEDS = {"alpha": 1, "beta": 2, "gamma": 3}
# One of the models, 16 MiB each, fits the GPU, and all fit the arena.
ONE_FITS: Table = {
    "devices": [f"host:{20 * MIB}:0"],
    "arena": f"{96 * MIB}B",
    "reserve": "0B",
    "context": "0B",
    "warm": 0,
}


def expected(name: str, number: float) -> list[float]:
    return gpus.answer(gpus.layers(SEEDS[name]), number)


@pytest.mark.parametrize("victim", ["worker", "owner"])
def test_a_replica_that_ends_while_it_waits_for_room_takes_none_with_it(
    start: StartNode, victim: str
) -> None:
    node = start(gpu=ONE_FITS, queue_timeout_s=20)
    node.deploy(APPS / "gpus.py")
    for name in ("alpha", "beta"):  # alpha is parked for beta
        assert node.value(name, number=0) == expected(name, 0)
    (waits,) = node.pids("alpha")
    with ThreadPoolExecutor(2) as threads:
        busy = threads.submit(node.value, "beta", number=1, seconds=1.5)
        eventually(lambda: node.states("beta") == ["busy"], "beta to run")
        waiting = threads.submit(node.value, "alpha", number=1)
        eventually(lambda: node.states("alpha") == ["starting"], "alpha to wait for room")
        os.kill(waits if victim == "worker" else memory(node)["pid"], signal.SIGKILL)
        assert busy.result() == expected("beta", 1)
        assert waiting.result() == expected("alpha", 1)
    for number, name in enumerate(("alpha", "beta") * 2):
        assert node.value(name, number=number) == expected(name, number)
    assert memory(node)["devices"][0]["resident_bytes"] == 16 * MIB
    assert_no_traceback(node)


def memory(node: LiveNode) -> Document:
    def found() -> Document | None:
        document: Document | None = node.http.get("/status").json()["memory"]
        return document

    document = eventually(found, "an owner")
    assert document is not None
    return document


def assert_no_traceback(node: LiveNode) -> None:
    assert node.stop() == 0, node.log
    assert "Traceback" not in node.log, node.log
