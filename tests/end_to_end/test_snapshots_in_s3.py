"""A node whose snapshots are in an S3 store, and what becomes of calls when that fails."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deadlines import eventually
from faulty_proxy import Fault, FaultyProxy, faulty_proxy
from live_node import APPS, Document, LiveNode, StartNode, Table, start_node
from s3_server import CREDENTIALS, S3Server

SUM = float(sum(range(4_000_000)))
SLAB = "slab"


@dataclass(frozen=True, slots=True)
class Stored:
    """A node, the way to its store, and the store's own files."""

    node: LiveNode
    proxy: FaultyProxy
    server: S3Server
    bucket: str
    digest: str

    @property
    def directory(self) -> Path:
        """Where the node's copy of the snapshot is, or was."""
        return self.node.data / "snapshots" / self.digest

    def lose(self) -> None:
        """Has the snapshot leave the disk, if it is there, and the replica that has it."""
        self.settle()
        if self.directory.exists():
            shutil.rmtree(self.directory)
        self.proxy.seen.clear()

    def settle(self) -> None:
        """Waits until no replica is left."""
        rest(self.node, "heavy")

    def restores(self) -> bool:
        """Whether a replica that starts now starts from the snapshot."""
        self.settle()
        return bool(self.call()["restored"])

    def call(self) -> Document:
        """What a call gives, which must be right however the replica came to be."""
        answer: Document = self.node.value("heavy")
        assert answer["sum"] == SUM
        return answer

    def stored_slab(self) -> Path:
        """The slab on the server."""
        files = self.server.files(self.bucket)
        return next(path for key, path in files.items() if self.digest in key and SLAB in key)


@pytest.fixture(scope="module")
def common(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """What most tests of the file share."""
    with pytest.MonkeyPatch.context() as patch, faulty_proxy(s3.port) as proxy:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        bucket = s3.make_bucket()
        place = tmp_path_factory.mktemp("stored")
        node = start_node(place, snapshots=table(bucket, proxy.url))
        try:
            yield deployed(node, proxy, s3, bucket)
            assert node.stop() == 0, node.log
            assert "Traceback" not in node.log, node.log
        finally:
            node.end()


@pytest.fixture
def shared(common: Stored) -> Iterator[Stored]:
    """That, with a way to the store that works again in the end."""
    yield common
    common.proxy.heal()


@pytest.fixture
def stored(s3: S3Server, credentials: None, start: StartNode) -> Iterator[Stored]:
    """A node and a store for a test that leaves one of them in ruins."""
    bucket = s3.make_bucket()
    with faulty_proxy(s3.port) as proxy:
        # A call that waits for a pull does not end; it need not hold up the node for long.
        node = start(snapshots=table(bucket, proxy.url), shutdown_timeout_s=2)
        yield deployed(node, proxy, s3, bucket)


def deployed(node: LiveNode, proxy: FaultyProxy, server: S3Server, bucket: str) -> Stored:
    """The functions are there, and their snapshots in the store."""
    digest = node.deploy(APPS / "stored.py")["heavy"]["snapshot"]["digest"]
    wait_until_stored(node, "heavy")
    wait_until_stored(node, "other")
    return Stored(node, proxy, server, bucket, digest)


def table(bucket: str, url: str, **more: object) -> Table:
    """The table of the configuration that says where the store is."""
    store = {"store": f"s3://{bucket}/team/a", "endpoint_url": url, "region": "us-east-1"}
    return {**store, **more}


def show(node: LiveNode, name: str) -> Document:
    """All that the node tells of a snapshot."""
    document: Document = node.http.get(f"/snapshots/{name}").json()
    return document


def wait_until_stored(node: LiveNode, name: str) -> None:
    eventually(lambda: show(node, name)["store"]["state"] == "stored", "the push")


def rest(node: LiveNode, name: str) -> None:
    """Waits until a function has no replica left."""
    eventually(lambda: not node.states(name), f"the replicas of {name} to go")


def flip(path: Path) -> None:
    """Flips a bit of its last byte."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


def test_a_snapshot_that_left_the_disk_comes_back_when_it_is_called(shared: Stored) -> None:
    shared.lose()
    assert shared.call()["restored"]
    assert shared.directory.is_dir()
    assert show(shared.node, "heavy")["tiers"] == ["disk", "store"]
    (last, *_) = shared.node.http.get("/functions/heavy/timeline").json()["calls"]
    assert 1_000 <= last["phases_us"]["start.pull"] <= last["phases_us"]["start"]


def test_calls_that_come_together_wait_for_one_pull(shared: Stored) -> None:
    shared.lose()
    answers: list[Document] = []
    threads = [threading.Thread(target=lambda: answers.append(shared.call())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8 and all(answer["restored"] for answer in answers)
    assert len(shared.proxy.requests("GET", SLAB)) == 2, "a slab of two parts"


@pytest.mark.parametrize("kind", ["refused", "cut", "stalled", "flipped"])
def test_a_call_survives_a_store_that_falters(shared: Stored, kind: str) -> None:
    shared.lose()
    shared.proxy.inject(Fault(kind, 1_000_000), "GET", SLAB, times=1)
    assert shared.call()["restored"]


def test_a_store_that_is_away_leaves_the_call_its_setup(shared: Stored) -> None:
    shared.lose()
    before = shared.node.metric("dsfn_failed_restores_total", function="heavy")
    shared.proxy.inject(Fault("refused"), "GET", "", times=1000)
    assert not shared.call()["restored"]
    (last, *_) = shared.node.http.get("/functions/heavy/timeline").json()["calls"]
    assert last["phases_us"]["start.pull"] > 500_000, "it was asked for again and again"
    reason = show_when_away(shared)
    assert "503" in reason
    shown = shared.node.http.get("/snapshots/heavy").json()
    assert (shown["tiers"], shown["functions"]) == (["store"], ["heavy"])
    assert shown["fault"] and "files" not in shown
    assert shared.node.metric("dsfn_failed_restores_total", function="heavy") > before
    assert shared.node.describe("heavy")["snapshot"]["state"] == "published"


def show_when_away(stored: Stored) -> str:
    """Why the last copy failed, as the list tells it."""
    document = stored.node.http.get("/snapshots").json()
    row = next(row for row in document["snapshots"] if row["digest"] == stored.digest)
    assert row["tiers"] == ["store"], "it is there as far as the node knows"
    prefetched = stored.node.http.post("/snapshots/prefetch", json={"functions": ["heavy"]})
    reason: str = last_line(prefetched.text)["result"]["functions"][0]["reason"]
    return reason


def last_line(text: str) -> Any:
    """The last of an answer's lines."""
    return json.loads(text.splitlines()[-1])


def test_a_damaged_copy_on_the_disk_is_never_used_and_is_replaced(
    stored: Stored, start: StartNode
) -> None:
    stored.settle()
    assert stored.node.stop() == 0
    (slab,) = stored.directory.glob("slab*")
    flip(slab)
    node = start(stored.node.place, snapshots=table(stored.bucket, stored.proxy.url))
    again = Stored(node, stored.proxy, stored.server, stored.bucket, stored.digest)
    assert again.call()["sum"] == SUM
    eventually(again.restores, "the second copy to be used")
    assert node.describe("heavy")["snapshot"]["state"] == "published"


def test_what_is_damaged_on_the_disk_and_in_the_store_is_quarantined(
    stored: Stored,
) -> None:
    flip(stored.stored_slab())
    stored.lose()
    assert not stored.call()["restored"]
    eventually(
        lambda: stored.node.describe("heavy")["snapshot"]["state"] == "quarantined",
        "the quarantine",
    )
    assert "damaged" in stored.node.describe("heavy")["snapshot_reason"]
    stored.settle()
    stored.proxy.seen.clear()
    assert not stored.call()["restored"]
    assert not stored.proxy.requests("GET", SLAB), "it is not even pulled any more"
    row = stored.node.http.get("/snapshots").json()["snapshots"]
    assert [r["quarantine"] is not None for r in row if r["digest"] == stored.digest] == [True]


def test_a_quarantine_ends_when_a_good_copy_has_come(stored: Stored) -> None:
    stored.settle()
    good = stored.stored_slab().read_bytes()
    flip(stored.stored_slab())
    stored.lose()
    assert not stored.call()["restored"]
    eventually(
        lambda: stored.node.describe("heavy")["snapshot"]["state"] == "quarantined",
        "the quarantine",
    )
    stored.stored_slab().write_bytes(good)
    answer = stored.node.http.post("/snapshots/heavy/pull", json={})
    result = last_line(answer.text)["result"]
    assert result["reinstated"] == [stored.node.describe("heavy")["revision"]]
    assert stored.node.describe("heavy")["snapshot"]["state"] == "published"
    eventually(stored.restores, "the good copy to be used")


def test_a_copy_that_is_damaged_once_more_is_fetched_once_more(stored: Stored) -> None:
    stored.settle()
    for _ in range(2):
        stored.node.park("heavy", "absent")
        (slab,) = stored.directory.glob("slab*")
        flip(slab)
        assert stored.call()["sum"] == SUM
        eventually(stored.restores, "the fetched copy to be used")
        assert stored.node.describe("heavy")["snapshot"]["state"] == "published"


def test_a_node_killed_in_a_pull_leaves_nothing_half_and_pulls_again(
    stored: Stored, start: StartNode
) -> None:
    stored.lose()
    stored.proxy.bytes_per_s = 1_000_000
    connection = stored.node.begin("heavy")
    eventually(lambda: stored.proxy.requests("GET", SLAB), "the pull")
    stored.node.kill()
    connection.close()
    stored.proxy.bytes_per_s = 0
    node = start(stored.node.place, snapshots=table(stored.bucket, stored.proxy.url))
    assert not list((node.data / "snapshots").glob(".*"))
    again = Stored(node, stored.proxy, stored.server, stored.bucket, stored.digest)
    assert again.call()["restored"]


def test_a_node_that_is_stopped_in_a_pull_stops_at_once(stored: Stored) -> None:
    stored.lose()
    stored.proxy.bytes_per_s = 100_000
    connection = stored.node.begin("heavy")
    eventually(lambda: stored.proxy.requests("GET", SLAB), "the pull")
    stored.node.stop()
    connection.close()
    assert "Traceback" not in stored.node.log
    assert not list((stored.node.data / "snapshots").glob(".*"))


def test_a_client_that_goes_away_ends_the_copy_that_it_asked_for(shared: Stored) -> None:
    shared.lose()
    shared.proxy.bytes_per_s = 100_000
    with shared.node.http.stream("POST", "/snapshots/heavy/pull", json={}) as response:
        progress = next(response.iter_lines())
    assert '"total_bytes"' in progress
    snapshots = shared.node.data / "snapshots"
    eventually(lambda: not list(snapshots.glob(".staging*")), "the copy to end")
    assert not shared.directory.exists()


def test_the_disks_limit_is_kept_and_every_function_answers(
    s3: S3Server, credentials: None, start: StartNode
) -> None:
    bucket = s3.make_bucket()
    node = start(snapshots=table(bucket, s3.url, max_disk_bytes=20_000_000))
    node.deploy(APPS / "stored.py")
    for name in ("heavy", "other"):
        wait_until_stored(node, name)
    eventually(lambda: used_bytes(node) <= 20_000_000, "one of them to leave")
    for _ in range(2):
        for name in ("heavy", "other"):
            assert node.value(name)["restored"]
            rest(node, name)
            used = node.http.get("/snapshots").json()["disk"]["used_bytes"]
            assert 16_000_000 < used <= 20_000_000


def used_bytes(node: LiveNode) -> int:
    """What snapshots take of the disk."""
    used: int = node.http.get("/snapshots").json()["disk"]["used_bytes"]
    return used


def test_pulls_leak_no_descriptors_and_no_threads(shared: Stored) -> None:
    def open_ones() -> tuple[int, int]:
        process = Path(f"/proc/{shared.node.process.pid}")
        return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))

    shared.lose()
    assert shared.call()["restored"]
    shared.settle()
    before = open_ones()
    for fault in ("cut", "refused", "flipped"):
        shared.lose()
        shared.proxy.inject(Fault(fault, 10), "GET", SLAB)
        assert shared.call()["restored"]
        shared.settle()
    after = open_ones()
    assert after[0] <= before[0] + 4 and after[1] <= before[1] + 2
