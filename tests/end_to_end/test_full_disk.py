"""A disk without room: a clear 507, nothing corrupted, and all is well once there is room."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shutil import disk_usage

import apsw
import httpx
import pytest
from deadlines import eventually
from gpu_scenes import MIB, SEEDS, expected, stand_in
from live_node import APPS, DeployFailed, Document, LiveNode, StartNode, launch

SIZE = "24m"
KEY = {"Idempotency-Key": "once"}


@pytest.fixture
def place(small_disk: Callable[[str], Path], tmp_path: Path) -> Path:
    """A place whose data directory is a file system smaller than what is written to it."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "data").symlink_to(small_disk(SIZE))
    return place


def fill(place: Path) -> Path:
    """Writes a file until nothing fits any more."""
    ballast = place / "data" / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return ballast


def is_full(answer: httpx.Response) -> bool:
    """Whether an answer says that the disk is full, in the way that it must."""
    if answer.status_code != 507:
        assert answer.status_code in (200, 202), answer.text
        return False
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == "https://dsfn.dev/errors/storage-full"
    assert "There is no room left on the disk" in problem["detail"]
    return True


def until_full(send: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    """Sends until the disk is full; what was taken before."""
    taken: list[httpx.Response] = []
    for number in range(20_000):
        answer = send(number)
        if is_full(answer):
            return taken
        taken.append(answer)
    raise AssertionError("The disk never got full.")


def event(number: int) -> dict[str, str]:
    return {
        "ce-specversion": "1.0",
        "ce-type": "tally",
        "ce-source": "/disk",
        "ce-id": str(number),
        "Content-Type": "application/json",
    }


def test_a_full_disk_is_told_and_corrupts_nothing(
    place: Path, start: StartNode, tmp_path: Path
) -> None:
    node = start(place)
    node.deploy(APPS / "calls.py")
    node.deploy(APPS / "records.py")
    body = f'{{"folder": "{tmp_path}"}}'
    answers = [node.call("echo", text="a") for _ in range(20)]
    ballast = fill(place)

    # The log of a database has room of its own for a while.
    answers += until_full(lambda _: node.call("echo", text="a"))
    assert is_full(node.call("echo", text="still"))
    accepted = until_full(lambda n: node.http.post("/events", content=body, headers=event(n)))
    assert is_full(node.http.post("/blobs", content=bytes(200_000)))
    assert is_full(
        node.http.post(
            "/functions/echo", json={"text": "x" * 100_000}, headers={"Prefer": "respond-async"}
        )
    )
    assert is_full(node.http.post("/functions/echo", json={"text": "once"}, headers=KEY))
    with pytest.raises(DeployFailed) as caught:
        node.deploy(APPS / "streams.py")
    assert caught.value.problem["status"] == 507
    assert node.http.get("/health/liveness").status_code == 200
    assert node.http.get("/functions/echo").status_code == 200
    check(node, answers)

    ballast.unlink()
    assert eventually(lambda: node.call("echo", text="a").status_code == 200, "room to be used")
    once = node.http.post("/functions/echo", json={"text": "once"}, headers=KEY)
    # Of a call that found no room the answer may be kept, while its row was not: it is posted now.
    assert (once.status_code, once.json()) == (200, "once")
    answers.append(once)
    node.deploy(APPS / "streams.py")
    check(node, answers)
    assert node.stop() == 0
    assert not list(node.data.rglob(".staging-*"))

    # On a full disk no node starts; on the next one with room, what was accepted is delivered.
    printed = node.log
    ballast = fill(place)
    refused = launch(place)
    assert refused.wait() == 1
    words = refused.log.removeprefix(printed)
    assert words == "There is no room left on the disk to write node.db.\n"
    ballast.unlink()
    node = start(place)
    wanted = {f"effect-{n}" for n in range(len(accepted))}
    eventually(lambda: wanted <= {path.name for path in tmp_path.glob("effect-*")}, "every event")
    check(node, answers)


def test_a_disk_that_fills_up_in_a_capture_fails_that_deployment_and_nothing_else(
    place: Path, small_disk: Callable[[str], Path], start: StartNode
) -> None:
    small_disk("128m")
    node = start(place, gpu=stand_in(40 * MIB))
    node.deploy(APPS / "one_gpu.py")
    before = left_by_captures(node)
    ballast = fill(place)
    # The first of the functions, and a quarter of the second.
    os.truncate(ballast, ballast.stat().st_size - 20 * MIB)

    with pytest.raises(DeployFailed, match="The disk has no room for the snapshot") as caught:
        node.deploy(APPS / "gpus.py")
    assert caught.value.problem["status"] == 507
    assert left_by_captures(node) == before
    assert disk_usage(node.data).free > 19 * MIB
    assert node.call("beta", number=1).status_code == 404
    assert node.value("alpha", number=1) == expected("alpha", 1)

    ballast.unlink()
    node.deploy(APPS / "gpus.py")
    for name in SEEDS:
        assert node.describe(name)["snapshot"], node.describe(name)["snapshot_reason"]
        assert node.value(name, number=2) == expected(name, 2)
    assert node.stop() == 0, node.log
    assert "Traceback" not in node.log, node.log


def left_by_captures(node: LiveNode) -> tuple[set[str], Document]:
    """The files of snapshots, and what the memory owner holds."""
    held = node.memory()
    names = ("arena_used_bytes", "slabs", "mappings")
    files = {str(path) for path in (node.data / "snapshots").rglob("*")}
    return files, {name: held[name] for name in names}


def check(node: LiveNode, answers: list[httpx.Response]) -> None:
    """Both databases are whole and every call that was answered has its row."""
    for name in ("node.db", "ledger.db"):
        with closing(apsw.Connection(str(node.data / name))) as connection:
            connection.execute("PRAGMA query_only=ON")
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rows = {row.invocation_id for row in node.rows("echo") if row.status == "succeeded"}
    assert {answer.headers["dsfn-invocation-id"] for answer in answers} <= rows
