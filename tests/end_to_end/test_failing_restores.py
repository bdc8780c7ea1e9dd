"""Snapshots whose restores fail although every byte of them is right."""

from __future__ import annotations

from pathlib import Path

import pytest
from deadlines import eventually
from live_node import LiveNode, StartNode

APP = """
import os
import signal
import time

import dsfn

SIGN = {sign!r}


def fault() -> None:
    if not os.path.exists(SIGN):
        return
    how = open(SIGN).read()
    if how == "abort":
        os.abort()
    if how == "exit":
        os._exit(3)
    if how == "raise":
        raise RuntimeError("boom")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        time.sleep(60)


class State:
    def __init__(self) -> None:
        self.number = 1

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        fault()


@dsfn.function(max_replicas=1)
class Objects:
    def setup(self) -> None:
        self.state, self.made_by = State(), os.getpid()

    def __call__(self) -> bool:
        return self.made_by == os.getpid()


@dsfn.function(max_replicas=1)
class Hook:
    def setup(self) -> None:
        self.made_by = os.getpid()

    def after_restore(self) -> None:
        if self.made_by != os.getpid():
            fault()

    def __call__(self) -> bool:
        return self.made_by == os.getpid()
"""


@pytest.fixture
def sign(tmp_path: Path) -> Path:
    return tmp_path / "sign"


@pytest.fixture
def node(start: StartNode, tmp_path: Path, sign: Path) -> LiveNode:
    app = tmp_path / "app.py"
    app.write_text(APP.format(sign=str(sign)))
    node = start(start_timeout_s=4)
    for name, described in node.deploy(app).items():
        assert described["snapshot"], described["snapshot_reason"]
        assert node.value(name) is False  # it came from the snapshot
    return node


def starts_anew(node: LiveNode, name: str) -> None:
    node.park(name, "absent")
    eventually(lambda: not node.pids(name), "its replica to end")


@pytest.mark.parametrize("name", ["objects", "hook"])
def test_a_snapshot_whose_restore_ends_the_process_is_given_up(
    node: LiveNode, sign: Path, name: str
) -> None:
    for how in ("abort", "exit", "raise"):
        sign.write_text(how)
        starts_anew(node, name)
        assert node.value(name) is True  # setup() has run in this very process
    described = node.describe(name)
    assert described["snapshot"]["state"] == "quarantined"
    assert "Restores that failed: 3." in described["snapshot_reason"]
    assert "boom" in described["snapshot_reason"]
    assert node.log.count("its snapshot is quarantined, and setup() runs instead.") == 1
    sign.unlink()
    starts_anew(node, name)
    assert node.value(name) is True


def test_a_restore_that_hangs_counts_as_one_that_failed(node: LiveNode, sign: Path) -> None:
    sign.write_text("hang")
    starts_anew(node, "hook")
    assert node.value("hook") is True
    assert node.metric("dsfn_failed_restores_total", function="hook") == 1


def test_a_process_that_is_killed_while_it_restores_is_not_its_snapshots_fault(
    node: LiveNode, sign: Path
) -> None:
    sign.write_text("killed")
    starts_anew(node, "hook")
    for _ in range(4):
        assert node.call("hook").status_code == 503
    sign.unlink()
    assert node.value("hook") is False
    assert node.metric("dsfn_failed_restores_total", function="hook") == 0
