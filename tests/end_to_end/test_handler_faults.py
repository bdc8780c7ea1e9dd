"""A handler that fails in any way: its call alone, with an error of its own, and calls go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from deadlines import eventually
from live_node import APPS, LiveNode
from load import Load

MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
OVER_STAYED = "The function did not answer within its timeout of 2 s."


@pytest.fixture(scope="module", autouse=True)
def deployed(node: LiveNode) -> None:
    node.deploy(APPS / "faults.py")
    node.deploy(APPS / "calls.py")


@pytest.mark.parametrize(
    ("kind", "status", "error", "fields"),
    [
        ("do_raise", 500, "HandlerRaised", {"exception": "LookupError"}),
        ("recurse", 500, "HandlerRaised", {"exception": "RecursionError"}),
        ("leave_politely", 500, "HandlerRaised", {"exception": "SystemExit"}),
        ("loop", 504, "HandlerTimedOut", {"timeout_s": 2, "detail": OVER_STAYED}),
        ("loop_and_listen_to_nothing", 504, "HandlerTimedOut", {"detail": OVER_STAYED}),
        ("leave", 502, "HandlerCrashed", {"exit_code": 3}),
        ("be_killed", 502, "HandlerCrashed", {"signal": "SIGKILL"}),
        ("crash", 502, "HandlerCrashed", {"signal": "SIGABRT"}),
        ("be_signalled", 502, "HandlerCrashed", {"signal": "signal 40"}),
        ("take_memory", 500, "OutOfMemory", {"limit_bytes": 300 << 20}),
        ("take_memory_for_a_tensor", 500, "OutOfMemory", {"limit_bytes": 300 << 20}),
        ("print_a_gigabyte", 500, "OutputTooLarge", {"limit_bytes": 16 << 20}),
    ],
)
def test_a_fault_fails_its_own_call_and_no_other(
    node: LiveNode, kind: str, status: int, error: str, fields: dict[str, Any]
) -> None:
    with ThreadPoolExecutor() as pool:
        neighbour = pool.submit(node.call, "fault", seconds=0.5)
        eventually(lambda: "busy" in node.states("fault"), "another call to run")
        answer = node.call("fault", kind=kind)
        assert neighbour.result().status_code == 200, neighbour.result().text
    problem = answer.json()
    assert answer.status_code == status, problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert fields.items() <= problem.items()
    row = node.row(answer)
    # Nobody but the kernel, or somebody who may, ends a process that way.
    assert (row.status, row.error) == ("platform" if kind == "be_killed" else "failed", error)
    assert node.metric("dsfn_errors_total", error=error, function="fault") > 0
    assert node.value("fault") in node.pids("fault")


def test_what_a_handler_raised_is_shown_with_the_frames_of_its_author(node: LiveNode) -> None:
    problem = node.call("fault", kind="do_raise").json()
    assert problem["detail"] == "LookupError: no number under 'a'"
    lines = problem["traceback"].splitlines()
    files = {line.split('"')[1] for line in lines if line.lstrip().startswith('File "')}
    assert files == {"faults.py"}
    assert "ValueError: invalid literal for int()" in problem["traceback"]
    assert lines[-1] == "LookupError: no number under 'a'"


def test_a_call_that_stops_when_told_keeps_its_replica(node: LiveNode) -> None:
    before = node.value("fault")
    assert node.call("fault", kind="loop").status_code == 504
    eventually(lambda: "busy" not in node.states("fault"), "the call to stop")
    assert before in node.pids("fault")


def test_a_call_that_does_not_stop_when_told_loses_its_replica(node: LiveNode) -> None:
    before = node.value("fault")
    assert node.call("fault", kind="loop_and_listen_to_nothing").status_code == 504
    eventually(lambda: before not in node.pids("fault"), "the replica to be replaced")
    assert node.value("fault") != before
    assert before not in node.processes()


@pytest.mark.parametrize("kind", ["leave", "be_killed", "crash", "take_memory", "print_a_gigabyte"])
def test_a_replica_that_a_fault_spoilt_is_replaced(node: LiveNode, kind: str) -> None:
    node.value("fault")
    before = node.pids("fault")  # another than the one that just answered may get the call
    assert node.call("fault", kind=kind).status_code >= 500
    gone = eventually(lambda: before - node.pids("fault"), "a replica to go")
    assert node.value("fault") not in gone
    eventually(lambda: not gone & node.processes(), "its process to end")


@pytest.mark.parametrize("function", ["fault-in-thread", "fault-in-task"])
def test_calls_beside_each_other_time_out_one_by_one(node: LiveNode, function: str) -> None:
    (pid,) = {node.value(function)}
    with ThreadPoolExecutor() as pool:
        hung = pool.submit(node.call, function, hangs=True)
        eventually(lambda: "busy" in node.states(function), "a call to hang")
        assert node.value(function) == pid
        assert hung.result().status_code == 504
    assert node.value(function) == pid


def test_too_large_a_result_is_an_error_and_the_replica_stays(node: LiveNode) -> None:
    assert len(node.value("give-much", size=1000)) == 1000
    (pid,) = node.pids("give-much")
    answer = node.call("give-much", size=5 << 20)
    assert answer.status_code == 500
    assert answer.json()["type"].endswith("/output-too-large")
    assert answer.json()["limit_bytes"] == 4 << 20
    assert node.pids("give-much") == {pid}


def test_a_result_that_is_no_json_is_the_functions_own_error(node: LiveNode) -> None:
    problem = node.call("give-nan").json()
    assert (problem["status"], problem["type"][-15:]) == (500, "/handler-raised")
    assert "NaN or infinity at 'ratio'" in problem["detail"]


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """A group of processes that the kernel allows so much memory."""
    group = MEMORY_GROUPS / f"dsfn-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
    except OSError as error:
        pytest.skip(f"No memory group can be made here: {error.strerror}.")
    try:
        yield group
    finally:
        eventually(lambda: not (group / "cgroup.procs").read_text(), "the group to be empty")
        group.rmdir()


def test_a_handler_that_the_kernel_kills_for_memory_is_said_to_be(node: LiveNode) -> None:
    assert node.value("hoard", mebibytes=1) == 1
    (pid,) = node.pids("hoard")
    with memory_group(64 << 20) as group:
        (group / "cgroup.procs").write_text(str(pid))
        answer = node.call("hoard", mebibytes=512)
    problem = answer.json()
    assert (answer.status_code, problem["signal"]) == (502, "SIGKILL")
    assert "the kernel does this when memory runs out" in problem["detail"]
    assert node.value("hoard", mebibytes=1) == 1
    assert pid not in node.processes()


def test_kill_9_of_workers_under_load_fails_their_own_calls_alone(node: LiveNode) -> None:
    kills = 6
    with Load(node, "rest", {"seconds": 0.05}, clients=4) as load:
        for _ in range(kills):
            load.go_on(8)
            os.kill(eventually(lambda: node.pids("rest"), "a replica").pop(), signal.SIGKILL)
    failed = [answer for answer in load.answers if answer.status_code != 200]
    assert len(failed) <= kills
    for answer in failed:
        assert (answer.status_code, answer.json()["signal"]) == (502, "SIGKILL")
        assert node.row(answer).status == "platform"
    rows = {row.invocation_id: row.status for row in node.rows("rest")}
    for answer in load.answers:
        succeeded = rows[answer.headers["dsfn-invocation-id"]] == "succeeded"
        assert succeeded == (answer.status_code == 200)


def test_a_fork_server_that_is_killed_takes_its_workers_and_is_replaced(node: LiveNode) -> None:
    (server,) = fork_servers(node)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(node.call, "fault", seconds=1.5)
        eventually(lambda: "busy" in node.states("fault"), "a call to run")
        os.kill(server, signal.SIGKILL)
        assert call.result().json()["signal"] == "SIGKILL"
    assert node.value("fault") in node.pids("fault")
    assert fork_servers(node).isdisjoint({server})


def test_spare_workers_that_are_killed_are_no_loss(node: LiveNode) -> None:
    assert node.value("give-much", size=1) == "x"
    (replica,) = node.pids("give-much")
    functions = node.http.get("/functions").json()["functions"]
    replicas = {pid for one in functions for pid in node.pids(one["name"])}
    workers = {one.pid for pid in fork_servers(node) for one in psutil.Process(pid).children()}
    killed = {replica, *workers} - (replicas - {replica})
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(map(psutil.pid_exists, killed)), "them to be waited for")
    eventually(lambda: replica not in node.pids("give-much"), "the replica to go")
    assert node.value("give-much", size=1) == "x"


def fork_servers(node: LiveNode) -> set[int]:
    children = psutil.Process(node.process.pid).children()
    return {one.pid for one in children if "dsfn.runtime.worker" in one.cmdline()}


def test_a_start_that_fails_is_not_its_callers_fault(node: LiveNode, tmp_path: Path) -> None:
    source, broken = tmp_path / "app.py", tmp_path / "broken"
    source.write_text(FRAGILE.format(path=str(broken)))
    node.deploy(source)
    broken.write_text("")
    answer = node.call("fragile")
    problem = answer.json()
    assert (answer.status_code, problem["type"][-21:]) == (503, "/replica-start-failed"), problem
    assert problem["detail"].endswith("OSError: the model is not there.")
    assert 'File "app.py"' in problem["traceback"]
    assert int(answer.headers["retry-after"]) >= 1
    broken.unlink()
    assert node.value("fragile") is True


FRAGILE = """
import threading
from pathlib import Path

import dsfn


@dsfn.function(max_replicas=1)
class Fragile:
    def setup(self) -> None:
        if Path({path!r}).exists():
            raise OSError("the model is not there")
        self.lock = threading.Lock()

    def __call__(self) -> bool:
        with self.lock:
            return True
"""
