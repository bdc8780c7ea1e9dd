"""The memory owner's heir: what it takes over, and when it has to go."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from deadlines import eventually
from gpu_scenes import MIB, SEEDS, expected, stand_in
from live_node import APPS, LiveNode, start_node

# One of the functions takes most of a second, and two fit.
SLOW = stand_in(40 * MIB, bytes_per_s=20 * MIB)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    node = start_node(tmp_path_factory.mktemp("heir"), gpu=SLOW, queue_timeout_s=20)
    try:
        node.deploy(APPS / "gpus.py")
        yield node
        assert node.stop() == 0, node.log
        assert not node.processes()
        assert "Traceback" not in node.log, node.log
    finally:
        node.end()


@pytest.fixture
def node(shared: LiveNode) -> LiveNode:
    """That node, with an heir."""
    heir_of(shared)
    return shared


def heir_of(node: LiveNode) -> int:
    pid: int = eventually(lambda: (node.memory() or {}).get("heir_pid"), "an heir")
    return pid


def test_the_heir_takes_over_from_an_owner_that_is_killed_in_a_restore(node: LiveNode) -> None:
    assert node.value("alpha", number=0) == expected("alpha", 0)
    node.park("alpha")
    before = node.memory()
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(node.value, "alpha", number=1)
        eventually(lambda: node.memory()["mappings"] == 1, "the restore to begin")
        os.kill(before["pid"], signal.SIGKILL)
        assert call.result() == expected("alpha", 1)
    after = node.memory()
    assert after["pid"] == before["heir_pid"]
    assert after["restarts"] == before["restarts"] + 1
    assert heir_of(node) != after["pid"]


def test_an_heir_that_ends_is_replaced(node: LiveNode) -> None:
    before = node.memory()
    os.kill(before["heir_pid"], signal.SIGKILL)
    eventually(lambda: node.memory()["heir_pid"] not in (None, before["heir_pid"]), "another heir")
    assert node.memory()["pid"] == before["pid"]


def test_without_an_heir_another_owner_is_started(node: LiveNode) -> None:
    before = node.memory()
    os.kill(before["heir_pid"], signal.SIGKILL)
    os.kill(before["pid"], signal.SIGKILL)
    assert node.value("alpha", number=2) == expected("alpha", 2)
    assert node.memory()["pid"] not in (before["pid"], before["heir_pid"])


def test_an_heir_goes_when_a_function_needs_the_room(node: LiveNode) -> None:
    heir = psutil.Process(heir_of(node))
    for name in SEEDS:  # the third needs what the heir and the first have
        assert node.value(name, number=3) == expected(name, 3)
    assert not heir.is_running()
