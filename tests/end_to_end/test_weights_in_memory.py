"""Weights in the memory of replicas that serve, compared with those that were captured."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from apps.writing import COUNT
from deadlines import eventually
from live_node import APPS, Document, LiveNode, Table, start_node

MIB = 1 << 20
GPU: Table = {
    "devices": [f"host:{16 * MIB}:0"],
    "arena": f"{32 * MIB}B",
    "reserve": "0B",
    "context": "0B",
    "warm": 0,
}
QUEUE_TIMEOUT_S = 2
START_TIMEOUT_S = 10
on_each_device = pytest.mark.parametrize(
    ("function", "device"), [("on-gpu", "gpu:0"), ("on-cpu", "cpu")]
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """A node for the whole file."""
    place = tmp_path_factory.mktemp("weights")
    node = start_node(
        place, gpu=GPU, queue_timeout_s=QUEUE_TIMEOUT_S, start_timeout_s=START_TIMEOUT_S
    )
    try:
        node.deploy(APPS / "writing.py")
        yield node
        assert node.stop() == 0, node.log
        assert "Traceback" not in node.log, node.log
    finally:
        node.end()


@pytest.fixture
def writing(shared: LiveNode) -> LiveNode:
    """That node, without a replica that others have left."""
    for function in ("on-gpu", "on-cpu", "plain"):
        shared.park(function, "absent")
    return shared


def verify(node: LiveNode, function: str) -> list[Document]:
    """What is found in each replica."""
    answer = node.http.post(f"/functions/{function}/verify")
    assert answer.status_code == 200, answer.text
    found: list[Document] = json.loads(answer.text.splitlines()[-1])["result"]["replicas"]
    return found


@on_each_device
def test_weights_that_nobody_wrote_to_are_intact_and_their_replica_stays(
    writing: LiveNode, function: str, device: str
) -> None:
    assert writing.value(function) == COUNT
    (pid,) = writing.pids(function)
    for _ in range(2):
        (found,) = verify(writing, function)
        assert (found["pid"], found["state"]) == (pid, "ready")
        assert found["slabs"] == [{"device": device, "intact": True}]
        assert (found["intact"], found["reason"]) == (True, None)
        assert found["check_us"] > 0
        assert writing.value(function) == COUNT
    assert writing.pids(function) == {pid}


@on_each_device
def test_weights_that_were_written_to_are_told_and_their_replica_is_replaced(
    writing: LiveNode, function: str, device: str
) -> None:
    assert writing.value(function, spoil=True) == COUNT + 1
    assert writing.value(function) == COUNT + 1
    (found,) = verify(writing, function)
    assert found["slabs"] == [{"device": device, "intact": False}]
    reason = f"Its weights in the memory of {device} are not those that were captured."
    assert (found["intact"], found["reason"]) == (False, reason)
    assert f"replica {found['pid']} is ended. {reason}" in writing.log
    back = writing.call(function)
    assert back.json() == COUNT
    assert writing.row(back).restore_us > 0
    assert found["pid"] not in writing.pids(function)
    assert [each["intact"] for each in verify(writing, function)] == [True]


@on_each_device
def test_weights_that_are_not_in_memory_are_not_looked_at(
    writing: LiveNode, function: str, device: str
) -> None:
    assert verify(writing, function) == []
    assert writing.value(function) == COUNT
    writing.park(function)
    (found,) = verify(writing, function)
    assert (found["state"], found["slabs"], found["intact"]) == ("parked", [], None)
    assert found["reason"] is None
    assert writing.states(function) == ["parked"]


def test_a_replica_without_a_snapshot_has_nothing_to_compare(writing: LiveNode) -> None:
    assert writing.value("plain") == 1
    (found,) = verify(writing, "plain")
    assert (found["state"], found["slabs"], found["intact"]) == ("ready", [], None)


def test_a_check_and_calls_wait_for_each_other(writing: LiveNode) -> None:
    assert writing.value("on-gpu") == COUNT
    with ThreadPoolExecutor(3) as threads:
        spoiling = threads.submit(writing.value, "on-gpu", spoil=True, wait_s=1)
        eventually(lambda: writing.states("on-gpu") == ["busy"], "the call to run")
        checking = [threads.submit(verify, writing, "on-gpu") for _ in range(2)]
        assert spoiling.result() == COUNT + 1
        found = [replica for each in checking for replica in each.result() if replica["slabs"]]
    assert [(replica["state"], replica["intact"]) for replica in found] == [("busy", False)]
    assert writing.value("on-gpu") == COUNT


def test_a_check_is_given_up_when_calls_do_not_end_and_the_replica_stays(
    writing: LiveNode,
) -> None:
    assert writing.value("on-cpu") == COUNT
    pids = writing.pids("on-cpu")
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(writing.value, "on-cpu", wait_s=QUEUE_TIMEOUT_S + 1)
        eventually(lambda: writing.states("on-cpu") == ["busy"], "the call to run")
        (found,) = verify(writing, "on-cpu")
        assert (found["state"], found["intact"]) == ("busy", None)
        assert found["reason"] == f"Its calls had not ended after {QUEUE_TIMEOUT_S} s."
        assert call.result() == COUNT
    assert [each["intact"] for each in verify(writing, "on-cpu")] == [True]
    assert writing.pids("on-cpu") == pids


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (signal.SIGKILL, "It ended meanwhile."),
        (None, f"It did not answer within {START_TIMEOUT_S} s."),
    ],
)
def test_a_replica_that_ends_or_hangs_while_it_is_checked_is_replaced(
    writing: LiveNode, end: signal.Signals | None, reason: str
) -> None:
    assert writing.value("on-gpu") == COUNT
    (pid,) = writing.pids("on-gpu")
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        checking = threads.submit(verify, writing, "on-gpu")
        eventually(lambda: writing.states("on-gpu") == ["starting"], "the check to begin")
        if end is not None:
            os.kill(pid, end)
        (found,) = checking.result()
    assert (found["pid"], found["intact"], found["reason"]) == (pid, None, reason)
    assert f"the weights of replica {pid} were not checked. {reason}" in writing.log
    assert writing.value("on-gpu") == COUNT
    assert writing.pids("on-gpu") != {pid}


def test_a_client_that_goes_away_leaves_a_replica_that_serves(writing: LiveNode) -> None:
    assert writing.value("on-gpu") == COUNT
    pids = writing.pids("on-gpu")
    for _ in range(5):
        writing.begin("on-gpu/verify").close()
    assert writing.value("on-gpu") == COUNT
    writing.park("on-gpu")
    assert writing.value("on-gpu") == COUNT
    assert writing.pids("on-gpu") == pids


def test_a_function_that_is_not_there_is_not_found(writing: LiveNode) -> None:
    assert writing.http.post("/functions/nobody/verify").status_code == 404
