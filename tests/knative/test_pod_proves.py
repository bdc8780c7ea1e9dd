"""A pod of a revision that is not proved is ready only once it has loaded a replica."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from deadlines import eventually
from live_node import LiveNode
from live_pod import LivePod, TestStore, launch_pod, pod_variables
from revisions import make_revision

from dsfn.functions.errors import MemoryFull
from dsfn.knative.pod.program import prove

NO_ROOM = MemoryFull("The device has no room for it.", what="device", retry_after_s=1)
APP = """
import os
import time

import dsfn

if "K_SERVICE" in os.environ:
    print("it comes", flush=True)
    {in_the_pod}


@dsfn.function
def {name}() -> int:
    return 1
"""
WAITS = 'while not os.path.exists(os.environ["GATE"]): time.sleep(0.02)'


def launched(
    node: LiveNode, store: TestStore, place: Path, name: str, in_the_pod: str, *, proved: bool
) -> LivePod:
    """A pod that has just been started, of a function that does this where it is imported."""
    app = place / f"{name}.py"
    app.write_text(APP.format(name=name, in_the_pod=in_the_pod), encoding="utf-8")
    node.deploy(app)
    published = store.publish(node, name)
    variables = pod_variables(store, published.digest, node.url, proved=proved)
    return launch_pod(place, {**variables, "GATE": str(place / "gate")}, wait=False)


def is_open(pod: LivePod) -> bool:
    try:
        socket.create_connection(("127.0.0.1", pod.port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_pod_that_proves_is_ready_once_its_replica_is(
    node: LiveNode, directory: TestStore, tmp_path: Path
) -> None:
    pod = launched(node, directory, tmp_path, "proves", WAITS, proved=False)
    try:
        eventually(lambda: "it comes" in pod.log, "the replica to be on its way")
        assert not is_open(pod)
        (tmp_path / "gate").touch()
        eventually(lambda: is_open(pod), "the pod to be ready")
        assert pod.call().json() == 1
        assert pod.stop() == 0, pod.log
    finally:
        pod.end()


def test_a_pod_of_what_is_proved_is_ready_before(
    node: LiveNode, directory: TestStore, tmp_path: Path
) -> None:
    pod = launched(node, directory, tmp_path, "proved", WAITS, proved=True)
    try:
        eventually(lambda: is_open(pod), "the pod to be ready")
        assert pod.http.get("/health/readiness").status_code == 200
        (tmp_path / "gate").touch()
        assert pod.call().json() == 1
    finally:
        pod.end()


@pytest.mark.parametrize(
    ("name", "in_the_pod", "why"),
    [
        ("exits", "os._exit(7)", "its process ended while it started"),
        ("raises", 'raise ValueError("no model here")', "no model here"),
    ],
)
def test_what_cannot_start_ends_its_pod_and_says_why(
    node: LiveNode, directory: TestStore, tmp_path: Path, name: str, in_the_pod: str, why: str
) -> None:
    pod = launched(node, directory, tmp_path, name, in_the_pod, proved=False)
    try:
        assert pod.wait() == 1
    finally:
        pod.end()
    last = pod.log.splitlines()[-1]
    assert last.startswith("A replica of ")
    assert " could not be started: " in last
    assert why in last


def test_a_pod_that_proves_ends_when_it_is_told_to(
    node: LiveNode, directory: TestStore, tmp_path: Path
) -> None:
    pod = launched(node, directory, tmp_path, "told", WAITS, proved=False)
    try:
        eventually(lambda: "it comes" in pod.log, "the replica to be on its way")
        assert pod.stop() == 0, pod.log
    finally:
        pod.end()


class Crowded:
    """Pools that have no room for a replica, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.replica = self
        self.slot = None

    async def acquire(self, revision: object) -> Crowded:
        self.times -= 1
        if self.times >= 0:
            raise NO_ROOM
        return self

    def unreserve(self, slot: None) -> None:
        pass


def test_what_lacks_room_is_tried_again_and_told_as_that() -> None:
    pools: Any = Crowded(1)
    asyncio.run(prove(pools, make_revision(1), 60))
    assert pools.times < 0
    pools = Crowded(1_000)
    with pytest.raises(MemoryFull):
        asyncio.run(prove(pools, make_revision(1), 0))
