"""A node that is told to stop: what runs is finished, then nothing is left."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from deadlines import eventually
from live_node import APPS, LiveNode, StartNode, environment
from plain_http import plain_get

SLOW = """
import time

import dsfn


@dsfn.function
class Slow:
    def setup(self) -> None:
        time.sleep(3600)

    def __call__(self) -> int:
        return 1
"""


def assert_nothing_left(node: LiveNode) -> None:
    assert not node.processes()
    assert not list((node.place / "tmp").iterdir())
    assert not (node.data / "node.json").exists()
    assert not list(node.data.rglob(".staging-*"))
    assert "Traceback" not in node.log, node.log


def test_who_has_connected_before_the_end_is_answered(start: StartNode) -> None:
    node = start()
    with node.connect() as connection:
        # What answers shows that the other connection has been taken, too.
        assert not refuses(node)
        node.process.send_signal(signal.SIGTERM)
        connection.sendall(b"GET /health/liveness HTTP/1.1\r\nhost: a\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert node.wait() == 0


def refuses(node: LiveNode) -> bool:
    """Whether the node says that it takes no more calls, or nothing."""
    try:
        return plain_get(f"{node.url}/health/readiness").status_code == 503
    except httpx.TransportError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_call_that_runs_is_finished_before_the_node_ends(
    start: StartNode, tmp_path: Path, number: signal.Signals
) -> None:
    node = start(libraries=())
    node.deploy(APPS / "stopping.py")
    begun = tmp_path / "begun"
    connection = node.begin("rest", seconds=1.5, path=str(begun))
    eventually(begun.exists, "the call to run")
    node.process.send_signal(number)
    eventually(lambda: refuses(node), "the node to take no more calls")
    answer = connection.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(begun.read_bytes())
    connection.close()
    assert node.wait() == 0
    assert_nothing_left(node)
    (row,) = node.rows("rest")
    assert row.status == "succeeded"


def test_what_does_not_end_is_cut_off_and_told_so(start: StartNode, tmp_path: Path) -> None:
    node = start(libraries=(), shutdown_timeout_s=1, setup_timeout_s=600, cancel_grace_s=2)
    node.deploy(APPS / "stopping.py")
    source = tmp_path / "app.py"
    source.write_text(SLOW)
    stopped, ignored, streamed = (tmp_path / name for name in ("stopped", "ignored", "streamed"))
    with ThreadPoolExecutor() as pool:
        calls = [
            pool.submit(node.call, "listen", path=str(stopped)),
            pool.submit(node.call, "ignore", path=str(ignored)),
        ]
        stream = pool.submit(node.call, "go-on", path=str(streamed))
        steps = pool.submit(node.deploy_steps, source)
        eventually(lambda: stopped.exists() and ignored.exists(), "the calls to run")
        eventually(lambda: "busy" in node.states("go-on"), "the stream to run")
        eventually(lambda: list((node.data / "snapshots").glob(".staging-*")), "setup() to run")
        node.process.send_signal(signal.SIGTERM)
        for call in calls:
            problem = call.result().json()
            assert problem["type"] == "https://dsfn.dev/errors/shutting-down"
            assert problem["detail"] == "The node stopped before the call had ended."
            assert call.result().headers["retry-after"] == "5"
        assert '"title": "Shutting down"' in stream.result().text.rpartition("event: error")[2]
        last = steps.result()[-1]
        assert last["problem"]["detail"] == "The node stopped while it deployed."
    assert node.wait() == 0
    assert (stopped.read_text(), streamed.read_text()) == ("stopped", "stopped")
    assert_nothing_left(node)
    # It was not their callers' doing: nobody pays for it.
    assert [(row.status, row.error) for row in node.rows()] == [("platform", "ShuttingDown")] * 3


def test_who_follows_a_log_does_not_hold_the_node_up(start: StartNode, tmp_path: Path) -> None:
    node = start(libraries=())
    node.deploy(APPS / "stopping.py")
    with node.begin("go-on", path=str(tmp_path / "stopped")) as connection:
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
    eventually((tmp_path / "stopped").exists, "the stream to end")
    with node.http.stream("GET", "/functions/go-on/logs?follow=true") as answer:
        lines = answer.iter_lines()
        assert '"text":"streaming"' in next(lines)
        node.process.send_signal(signal.SIGTERM)
        assert list(lines) == []
    assert node.wait() == 0
    assert_nothing_left(node)


def test_dsfn_up_and_down_leave_nothing(tmp_path: Path) -> None:
    variables = environment({"DSFN_DATA": str(tmp_path / "data")})

    def dsfn(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dsfn", *arguments],
            env=variables,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    dsfn("up", "--detach", "--port", "0")
    try:
        assert "data" in dsfn("status")
    finally:
        dsfn("down")
    assert "No node runs" in dsfn("down")
    assert not (tmp_path / "data" / "node.json").exists()
