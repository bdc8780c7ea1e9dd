"""Replicas that come when they are needed and go when they are not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from deadlines import eventually
from live_node import APPS, LiveNode
from load import Load

WEIGHTS_BYTES = 64 << 20


@pytest.fixture(scope="module", autouse=True)
def deployed(node: LiveNode) -> Iterator[None]:
    node.deploy(APPS / "scaling.py")
    yield
    for name in ("sharers", "keeper"):
        node.http.delete(f"/functions/{name}")


def test_an_idle_function_parks_then_goes_and_comes_back(node: LiveNode) -> None:
    assert node.describe("napper")["state"] == "absent"
    first = node.call("napper")
    assert first.json() == 499_500
    assert phases(first.headers["server-timing"])["restore"] > 0
    seen = ["ready"]

    def is_absent() -> bool:
        state: str = node.describe("napper")["state"]
        if state != seen[-1]:
            seen.append(state)
        return state == "absent"

    pids = node.pids("napper")
    eventually(is_absent, "the replica to go")
    assert [state for state in seen if state != "starting"] == ["ready", "parked", "absent"]
    assert not pids & node.processes()
    back = node.call("napper")
    assert back.json() == 499_500
    assert phases(back.headers["server-timing"])["restore"] > 0
    assert node.row(back).restore_us > 0
    assert node.pids("napper") != pids


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Content-Type": "text/plain"}, 415), ({"Accept": "image/png"}, 406)],
)
def test_a_call_that_cannot_fit_is_refused_and_brings_no_replica_back(
    node: LiveNode, headers: dict[str, str], status: int
) -> None:
    node.park("napper", "absent")
    rejected = node.metric("dsfn_invocations_total", function="napper", status="rejected")
    answer = node.http.post("/functions/napper", content=b"{}", headers=headers)
    assert answer.status_code == status, answer.text
    row = node.row(answer)
    assert (row.status, row.held_us, row.restore_us) == ("rejected", 0, 0)
    assert row.revision == node.describe("napper")["revision"]
    after = node.metric("dsfn_invocations_total", function="napper", status="rejected")
    assert after == rejected + 1
    assert node.describe("napper")["state"] == "absent"


def test_a_parked_replica_comes_back_in_the_same_process(node: LiveNode) -> None:
    assert node.value("napper") == 499_500
    pids = node.pids("napper")
    eventually(lambda: node.states("napper") == ["parked"], "the replica to park")
    back = node.call("napper")
    assert back.json() == 499_500
    assert node.pids("napper") == pids
    assert phases(back.headers["server-timing"])["start"] == 0


def test_a_warm_call_waits_for_nothing(node: LiveNode) -> None:
    node.value("dice")
    took = phases(node.call("dice").headers["server-timing"])
    assert took["queue"] == took["start"] == took["restore"] == 0
    assert took["execute"] > 0


def test_min_replicas_are_there_without_a_call_and_are_replaced(node: LiveNode) -> None:
    (pid,) = eventually(lambda: ready(node, "keeper"), "the replica that must be there")
    assert node.value("keeper") == pid
    os.kill(pid, signal.SIGKILL)
    (other,) = eventually(lambda: ready(node, "keeper") - {pid}, "the replica to be replaced")
    # Far longer than remove_after.
    eventually(lambda: node.describe("keeper")["replicas"][0]["idle_s"] > 1, "it to idle")
    assert node.pids("keeper") == {other}


def test_a_replica_that_is_killed_at_rest_fails_no_call(node: LiveNode) -> None:
    """Its memory takes a moment to be given back, in which the node cannot tell."""
    for _ in range(8):
        assert node.value("napper") == 499_500
        (pid,) = node.pids("napper")
        os.kill(pid, signal.SIGKILL)
        answer = node.call("napper")
        assert (answer.status_code, answer.json()) == (200, 499_500), answer.text
        assert node.pids("napper") != {pid}
        assert node.row(answer).status == "succeeded"


def ready(node: LiveNode, function: str) -> set[int]:
    replicas = node.describe(function)["replicas"]
    return {replica["pid"] for replica in replicas if replica["state"] in ("ready", "parked")}


def test_replicas_grow_under_load_and_go_when_it_is_over(node: LiveNode) -> None:
    with Load(node, "crowd", {"seconds": 0.2}, clients=8) as load:
        eventually(lambda: len(node.pids("crowd")) == 4, "four replicas")
        load.go_on(8)
        assert len(node.pids("crowd")) == 4
    assert {answer.status_code for answer in load.answers} == {200}
    assert len({answer.json() for answer in load.answers}) >= 4
    eventually(lambda: node.describe("crowd")["state"] == "absent", "the replicas to go")
    assert node.describe("crowd")["replica_count"] == 0


def test_ten_replicas_share_one_copy_of_their_weights(node: LiveNode) -> None:
    eventually(lambda: len(ready(node, "sharers")) == 10, "ten replicas")
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: node.value("sharers", seconds=0.5), range(10)))
    pids = node.pids("sharers")
    assert {int(pid) for pid, _ in answers} == pids
    assert {total for _, total in answers} == {float(16 << 20)}
    mapped = [weights_pss(pid) for pid in pids]
    assert len(mapped) == 10
    assert abs(sum(mapped) - WEIGHTS_BYTES) < WEIGHTS_BYTES // 20
    # What is each one's own beside the weights is small: all ten fit into less than six copies,
    # though nobody else may be there to share the pages of their fork server with.
    assert sum(rollup_pss(pid) for pid in pids) < 6 * WEIGHTS_BYTES


def weights_pss(pid: int) -> int:
    """The bytes of the mapped slab that are this process's share."""
    total, inside = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if not line.split(" ")[0].endswith(":"):
            inside = line.endswith(".safetensors")
        elif inside and line.startswith("Pss:"):
            total += int(line.split()[1]) << 10
    return total


def rollup_pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no Pss in smaps_rollup")


def test_after_restore_runs_at_each_restore_and_each_replica_draws_its_own(node: LiveNode) -> None:
    with ThreadPoolExecutor(2) as pool:
        drawn = eventually(
            lambda: two if differ(two := draw_twice(node, pool)) else None, "two replicas"
        )
    first, other = drawn
    assert first["kept"] == other["kept"]
    assert first["restores"] == other["restores"] == 1
    for name in ("after", "python", "torch"):
        assert first[name] != other[name]


def draw_twice(node: LiveNode, pool: ThreadPoolExecutor) -> list[dict[str, object]]:
    # Longer than a second replica takes to come where there are other things to do, too.
    return list(pool.map(lambda _: node.value("dice", seconds=1.5), range(2)))


def differ(drawn: list[dict[str, object]]) -> bool:
    return drawn[0]["pid"] != drawn[1]["pid"]


def test_a_torchscript_module_comes_back_from_its_snapshot(node: LiveNode) -> None:
    assert node.describe("scripted")["snapshot"]["bytes"] > 0
    for _ in range(2):
        eventually(lambda: node.describe("scripted")["state"] == "absent", "no replica")
        answer = node.call("scripted", value=1.5)
        assert answer.json() == 24.0
        assert phases(answer.headers["server-timing"])["restore"] > 0


@pytest.mark.parametrize("file", ["manifest.json", "objects.pkl", "slab-cpu.safetensors"])
def test_a_snapshot_that_was_damaged_is_quarantined_and_the_call_answered(
    node: LiveNode, tmp_path: Path, file: str
) -> None:
    source = tmp_path / "app.py"
    source.write_text(FRAGILE + f"\n\nDAMAGED = {file!r}\n")
    snapshot = node.deploy(source)["fragile"]["snapshot"]
    path = node.data / "snapshots" / snapshot["digest"] / file
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-10] ^= 0xFF
    path.write_bytes(data)
    assert node.value("fragile") == 4.0
    shown = eventually(lambda: quarantined(node, "fragile"), "the quarantine")
    assert shown["snapshot_reason"].startswith("The snapshot is quarantined. The snapshot is dam")
    again = node.deploy(source)["fragile"]
    assert (again["snapshot"]["state"], again["snapshot_reason"]) == ("published", None)
    data[-10] ^= 0xFF
    assert path.read_bytes() == data


def quarantined(node: LiveNode, function: str) -> dict[str, Any] | None:
    """What `describe` tells, once it says that the snapshot is not used any more."""
    shown = node.describe(function)
    return shown if shown["snapshot"]["state"] == "quarantined" else None


def phases(header: str) -> dict[str, float]:
    """The milliseconds of a Server-Timing header."""
    pieces = (piece.strip().split(";dur=") for piece in header.split(","))
    return {name: float(duration) for name, duration in pieces}


FRAGILE = """
import torch

import dsfn


@dsfn.function
class Fragile:
    def setup(self) -> None:
        self.weights = torch.ones(4)

    def __call__(self) -> float:
        return float(self.weights.sum())
"""
