"""Calls that wait for a replica: side by side where they may, in bounds where they must."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deadlines import eventually
from live_node import APPS, LiveNode, StartNode


@pytest.fixture(scope="module", autouse=True)
def deployed(node: LiveNode) -> None:
    node.deploy(APPS / "calls.py")


def test_a_full_queue_refuses_with_a_time_to_come_back(node: LiveNode, tmp_path: Path) -> None:
    source = tmp_path / "app.py"
    source.write_text(NARROW)
    node.deploy(source)
    held = [node.begin("narrow", seconds=1.0)]
    eventually(lambda: "busy" in node.states("narrow"), "the first call to run")
    held += [node.begin("narrow", seconds=0.0) for _ in range(2)]
    eventually(lambda: node.metric("dsfn_queue_depth", function="narrow") == 2, "two to wait")
    refused = node.call("narrow", seconds=0.0)
    problem = refused.json()
    assert (refused.status_code, problem["type"][-11:]) == (503, "/queue-full")
    assert (problem["max_queue"], refused.headers["retry-after"]) == (2, "1")
    for connection in held:
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        connection.close()
    assert node.call("narrow", seconds=0.0).status_code == 200


def test_a_call_waits_no_longer_than_the_deadline(start: StartNode, tmp_path: Path) -> None:
    node = start(queue_timeout_s=1)
    source = tmp_path / "app.py"
    source.write_text(NARROW)
    node.deploy(source)
    connection = node.begin("narrow", seconds=30)
    eventually(lambda: "busy" in node.states("narrow"), "the first call to run")
    late = node.call("narrow", seconds=0.0)
    problem = late.json()
    assert (late.status_code, problem["type"][-14:]) == (503, "/queue-timeout")
    assert problem["waited_s"] == 1
    assert problem["detail"] == "No replica of narrow was free within 1 s: 1 busy."
    assert int(late.headers["retry-after"]) >= 1
    assert node.rows_of(late.headers["dsfn-invocation-id"]) == []
    connection.close()
    eventually(lambda: node.call("narrow", seconds=0.0).status_code == 200, "the replica")


@pytest.mark.parametrize("function", ["meet-in-threads", "meet-in-tasks"])
def test_calls_of_a_concurrent_function_run_side_by_side_in_one_process(
    node: LiveNode, function: str
) -> None:
    with ThreadPoolExecutor(4) as pool:
        pids = {one.result() for one in [pool.submit(node.value, function) for _ in range(4)]}
    assert len(pids) == 1


NARROW = """
import time

import dsfn


@dsfn.function(max_replicas=1, max_queue=2)
def narrow(seconds: float) -> None:
    time.sleep(seconds)
"""
