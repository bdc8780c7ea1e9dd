"""What happens to calls and to memory when something ends in the middle of a restore."""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from apps import one_gpu
from deadlines import eventually
from gpu_scenes import MIB, stand_in
from live_node import (
    APPS,
    SHARED_MEMORY,
    LiveNode,
    StartNode,
    launch,
    left_in_shared_memory,
    start_node,
)

# A restore of 16 MiB takes most of a second: long enough to be met on its way.
SLOW = stand_in(40 * MIB, bytes_per_s=20 * MIB)

weights = cache(one_gpu.layers)

STARTS_SLOWLY = """
import threading
import time

import dsfn


@dsfn.function(gpu=1)
class StartsSlowly:
    def setup(self) -> None:
        self.lock = threading.Lock()
        with open({path!r}, "a") as begun:
            begun.write(".")
        time.sleep(1)

    def __call__(self) -> int:
        return 1
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """A node for the whole file, which must stop as if nothing had happened."""
    before = set(SHARED_MEMORY.iterdir())
    node = start_node(tmp_path_factory.mktemp("slow"), gpu=SLOW)
    try:
        node.deploy(APPS / "one_gpu.py")
        yield node
        assert node.stop() == 0, node.log
        assert not node.processes()
        assert "Traceback" not in node.log, node.log
        assert not left_in_shared_memory(before)
        assert not list((node.place / "tmp").iterdir())
    finally:
        node.end()


@pytest.fixture
def slow(shared: LiveNode) -> LiveNode:
    """That node, with a replica that is at rest."""
    assert shared.value("alpha", number=0) == expected(0)
    return shared


def expected(number: float) -> list[float]:
    return one_gpu.answer(weights(), number)


@contextmanager
def restoring(node: LiveNode, number: float) -> Iterator[Future[Any]]:
    """A call of alpha whose weights are on their way."""
    node.park("alpha")
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(node.value, "alpha", number=number)
        eventually(lambda: node.memory()["mappings"] == 1, "the restore to begin")
        yield call


def test_a_worker_that_is_killed_in_a_restore_is_replaced(slow: LiveNode) -> None:
    with restoring(slow, 1) as call:
        (pid,) = slow.pids("alpha")
        os.kill(pid, signal.SIGKILL)
        assert call.result() == expected(1)
    assert slow.pids("alpha") != {pid}
    assert_nothing_leaked(slow)


def test_an_owner_that_is_killed_in_a_restore_is_replaced(slow: LiveNode) -> None:
    before = slow.memory()
    with restoring(slow, 2) as call:
        os.kill(before["pid"], signal.SIGKILL)
        assert call.result() == expected(2)
    assert slow.memory()["restarts"] == before["restarts"] + 1
    assert_nothing_leaked(slow)


def test_an_owner_that_is_killed_while_a_replica_starts_is_replaced(
    start: StartNode, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    app = tmp_path / "app.py"
    app.write_text(STARTS_SLOWLY.format(path=str(begun)))
    node = start(gpu=SLOW)
    reason = node.deploy(app)["starts-slowly"]["snapshot_reason"]
    assert "lock" in reason  # without a snapshot, setup() runs in every replica
    before = begun.read_text()
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(node.value, "starts-slowly")
        eventually(lambda: begun.read_text() != before, "setup() to run")
        os.kill(node.memory()["pid"], signal.SIGKILL)
        assert call.result() == 1
    assert node.memory()["restarts"] == 1


def test_a_node_that_is_killed_in_a_restore_leaves_nothing(start: StartNode) -> None:
    before = set(SHARED_MEMORY.iterdir())
    node = start(gpu=SLOW)
    node.deploy(APPS / "one_gpu.py")
    node.park("alpha")
    call = node.begin("alpha", number=3)
    eventually(lambda: node.memory()["mappings"] == 1, "the restore to begin")
    node.kill()  # and waits until none of its processes is left
    call.close()
    assert not left_in_shared_memory(before)
    again = start(gpu=SLOW)
    assert again.value("alpha", number=3) == expected(3)
    assert_nothing_leaked(again)
    assert again.stop() == 0, again.log
    assert "Traceback" not in again.log, again.log
    assert not list((again.place / "tmp").iterdir())


def test_a_caller_that_leaves_in_a_restore_leaves_the_replica_for_the_next(slow: LiveNode) -> None:
    slow.park("alpha")
    (pid,) = slow.pids("alpha")
    slow.begin("alpha", number=4).close()
    assert slow.value("alpha", number=4) == expected(4)
    assert slow.pids("alpha") == {pid}


def test_parks_that_race_restores_spoil_no_answer(start: StartNode) -> None:
    node = start(gpu={**SLOW, "devices": [f"host:{40 * MIB}:{400 * MIB}"]})
    node.deploy(APPS / "one_gpu.py")
    draw = random.Random(1)

    def call(number: int) -> bool:
        return bool(node.value("alpha", number=number) == expected(number))

    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(call, draw.randrange(5)) for _ in range(60)]
        while not all(each.done() for each in calls):
            node.park("alpha")
        assert all(each.result() for each in calls)
    assert_nothing_leaked(node)


def test_a_status_without_a_memory_owner_says_why_there_is_none(start: StartNode) -> None:
    # Each is to hold 96 MiB for pieces on their way to the other.
    node = start(gpu={**SLOW, "devices": [f"host:{50 * MIB}:0", f"host:{51 * MIB}:0"]})

    def fault() -> str:
        return str(node.http.get("/status").json()["memory_fault"])

    eventually(lambda: "no room for 100663296 bytes" in fault(), "the reason")
    assert node.http.get("/status").json()["memory"] is None
    told = "The memory owner cannot be started"
    eventually(lambda: told in node.log, "the log")
    assert node.log.count(told) == 1


@pytest.mark.parametrize(
    ("device", "code", "reason"),
    [
        ("cuda:99", 1, "(cuda-bindings is not|cuDeviceGet|cuInit|there is no driver)"),
        ("host:/nowhere:0", 1, "/nowhere cannot be a device's memory: No such file or directory"),
        ("gpu0", 2, "there is no device 'gpu0'"),
    ],
)
def test_a_node_whose_configuration_names_a_device_that_is_not_there_does_not_start(
    tmp_path: Path, device: str, code: int, reason: str
) -> None:
    node = launch(tmp_path, gpu={**SLOW, "devices": [device]})
    try:
        assert node.wait() == code
    finally:
        node.end()
    (sentence,) = node.log.splitlines()
    assert re.search(f"gpu.devices of config.toml cannot be used: {reason}", sentence)
    assert not node.processes()


def test_the_log_tells_of_owners_that_end_and_begin(slow: LiveNode) -> None:
    first, begun = slow.memory()["pid"], len(slow.log)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: "The memory owner runs as process" in slow.log[begun:], "the next owner")
    told = slow.log[begun:]
    assert f"The memory owner, process {first}, is lost: it has ended. Another" in told
    assert f"The memory owner runs as process {slow.memory()['pid']}." in told


def test_an_owner_that_hangs_is_replaced(slow: LiveNode) -> None:
    first = slow.memory()
    os.kill(first["pid"], signal.SIGSTOP)
    assert slow.http.get("/status").json()["memory_fault"] == "It does not answer."
    end = f"process {first['pid']}, is lost: it did not answer"
    eventually(lambda: end in slow.log, "its end")
    assert slow.value("alpha", number=6) == expected(6)
    assert slow.memory()["restarts"] == first["restarts"] + 1
    assert_nothing_leaked(slow)


def assert_nothing_leaked(node: LiveNode) -> None:
    """With everything gone the owner holds what it held in the beginning, and no descriptor more
    from one round to the next."""

    def is_empty() -> bool:
        found = node.memory()
        resident_bytes = found["devices"][0]["resident_bytes"]
        return bool(found["mappings"] == found["workers"] == resident_bytes == 0)

    def rest() -> int:
        node.park("alpha", "absent")
        eventually(is_empty, "the owner to have all back")
        return psutil.Process(node.memory()["pid"]).num_fds()

    before = rest()
    assert node.value("alpha", number=1) == expected(1)
    eventually(lambda: rest() <= before, "the owner's descriptors to be closed")
