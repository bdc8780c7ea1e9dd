"""What goes wrong between a node and its S3 store, and what becomes of it."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from faulty_proxy import Fault, FaultyProxy, faulty_proxy
from s3_server import S3Server

from dsfn.functions.errors import CorruptSnapshot, NotFound, StorageFull, StoreUnavailable
from dsfn.snapshots import s3_bucket, s3_transfer
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.format import MANIFEST_FILE
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.s3 import S3SnapshotStore
from dsfn.snapshots.s3_bucket import Bucket
from dsfn.snapshots.s3_transfer import ATTEMPTS, PART_BYTES
from dsfn.snapshots.sealed import is_sound
from dsfn.snapshots.store import FileStore
from dsfn.snapshots.transfer import Transfer

SLAB = "slab"
PARTS = 3


@dataclass(frozen=True, slots=True)
class Way:
    """A store that is reached through a proxy, which a test lets fail, and the bucket itself."""

    store: S3SnapshotStore
    proxy: FaultyProxy
    server: S3Server
    bucket: str

    def keys(self) -> set[str]:
        """The objects on the server, whatever the way to it does."""
        return set(self.server.files(self.bucket))


@pytest.fixture
def patience_s() -> float:
    """How long a connection may be silent: longer than a busy machine makes it wait."""
    return 5.0


@pytest.fixture
def way(
    s3: S3Server, credentials: None, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> Iterator[Way]:
    monkeypatch.setattr(s3_bucket, "READ_TIMEOUT_S", patience_s)
    monkeypatch.setattr(s3_transfer, "FIRST_PAUSE_S", 0.01)
    bucket = s3.make_bucket()
    with faulty_proxy(s3.port) as proxy:
        store = S3SnapshotStore(Bucket(bucket, "some/place/", proxy.url, "us-east-1"))
        yield Way(store, proxy, s3, bucket)
        store.close()


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published snapshot whose slab travels in several parts."""
    files = FileStore(tmp_path_factory.mktemp("snapshots"))
    staging = files.stage()
    # The last is shorter, and long enough to be cut off like the others.
    weight = torch.rand(PART_BYTES * (PARTS - 1) // 4 + 500_000)
    capture({"weight": weight}, Classes(), staging)
    return files.path(files.publish(staging).digest)


@pytest.fixture
def pushed(way: Way, snapshot: Path) -> Way:
    """The same way, with the snapshot in the store."""
    way.store.push(snapshot, transfer())
    way.proxy.seen.clear()
    return way


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    """An empty directory."""
    path = tmp_path / "staging"
    path.mkdir()
    return path


def transfer(timeout_s: float = 60) -> Transfer:
    return Transfer(timeout_s)


def slab_size(snapshot: Path) -> int:
    """The size of its slab."""
    (slab,) = snapshot.glob("slab*")
    return slab.stat().st_size


def assert_same(found: Path, snapshot: Path) -> None:
    """Every file is there, byte for byte."""
    there = {path.name: path.read_bytes() for path in found.iterdir()}
    assert there == {path.name: path.read_bytes() for path in snapshot.iterdir()}


def test_a_slab_is_pulled_in_ranges_that_travel_side_by_side(
    pushed: Way, snapshot: Path, staging: Path
) -> None:
    pushed.proxy.bytes_per_s = PART_BYTES * 2
    began = time.monotonic()
    pushed.store.pull(snapshot.name, staging, transfer())
    assert time.monotonic() - began < 1.4, "three parts of half a second"
    assert_same(staging, snapshot)
    end = slab_size(snapshot)
    starts = range(0, end, PART_BYTES)
    assert {seen.range for seen in pushed.proxy.requests("GET", SLAB)} == {
        f"bytes={start}-{min(start + PART_BYTES, end) - 1}" for start in starts
    }


def test_a_range_that_is_cut_off_goes_on_where_it_stopped(
    pushed: Way, snapshot: Path, staging: Path
) -> None:
    pushed.proxy.inject(Fault("cut", 1_000_000), "GET", SLAB)
    copy = transfer()
    pushed.store.pull(snapshot.name, staging, copy)
    assert_same(staging, snapshot)
    assert copy.done_bytes == copy.total_bytes
    assert len(pushed.proxy.requests("GET", SLAB)) == PARTS + 1
    starts = {int(seen.range[6:].partition("-")[0]) for seen in pushed.proxy.requests("GET", SLAB)}
    assert [start for start in starts if start % PART_BYTES == 1_000_000]


@pytest.mark.parametrize("patience_s", [0.5])
@pytest.mark.parametrize("kind", ["refused", "stalled", "lost", "cut"])
@pytest.mark.parametrize("name", [SLAB, "objects.pkl", MANIFEST_FILE])
def test_a_pull_survives_faults_of_every_kind(
    pushed: Way, snapshot: Path, staging: Path, kind: str, name: str
) -> None:
    pushed.proxy.inject(Fault(kind, 10), "GET", name, times=2)
    pushed.store.pull(snapshot.name, staging, transfer())
    assert_same(staging, snapshot)


def test_a_connection_that_is_cut_again_and_again_but_gives_some_each_time_is_good_enough(
    pushed: Way, snapshot: Path, staging: Path
) -> None:
    times = ATTEMPTS * PARTS + 1
    pushed.proxy.inject(Fault("cut", 300_000), "GET", SLAB, times=times)
    pushed.store.pull(snapshot.name, staging, transfer())
    assert_same(staging, snapshot)
    assert len(pushed.proxy.requests("GET", SLAB)) > times


def test_a_store_that_only_fails_is_given_up(pushed: Way, snapshot: Path, staging: Path) -> None:
    pushed.proxy.inject(Fault("refused"), "GET", MANIFEST_FILE, times=100)
    with pytest.raises(
        StoreUnavailable, match=f"503 SlowDown, {ATTEMPTS} times in a row"
    ) as caught:
        pushed.store.pull(snapshot.name, staging, transfer())
    assert caught.value.fields["retry_after_s"] == 10
    assert len(pushed.proxy.requests("GET")) == ATTEMPTS


def test_a_byte_that_flips_on_its_way_is_found_and_pulled_again(
    pushed: Way, snapshot: Path, staging: Path
) -> None:
    pushed.proxy.inject(Fault("flipped", 5), "GET", SLAB)
    copy = transfer()
    pushed.store.pull(snapshot.name, staging, copy)
    assert_same(staging, snapshot)
    assert copy.done_bytes == copy.total_bytes
    assert len(pushed.proxy.requests("GET", SLAB)) == 2 * PARTS


def test_bytes_that_flip_every_time_are_never_published(
    pushed: Way, snapshot: Path, staging: Path
) -> None:
    pushed.proxy.inject(Fault("flipped", 5), "GET", SLAB, times=100)
    with pytest.raises(CorruptSnapshot, match="differ from their digest"):
        pushed.store.pull(snapshot.name, staging, transfer())
    assert not (staging / MANIFEST_FILE).exists()
    with pytest.raises(CorruptSnapshot):
        FileStore(staging.parent / "snapshots").publish(staging)


def test_a_flipped_manifest_is_not_believed(pushed: Way, snapshot: Path, staging: Path) -> None:
    pushed.proxy.inject(Fault("flipped", 200), "GET", MANIFEST_FILE)
    with pytest.raises(CorruptSnapshot):
        pushed.store.pull(snapshot.name, staging, transfer())
    assert not list(staging.iterdir())


@pytest.mark.parametrize("kind", ["refused", "lost"])
@pytest.mark.parametrize("method", ["PUT", "POST", "HEAD"])
def test_a_push_survives_faults_of_every_kind(
    way: Way, snapshot: Path, staging: Path, kind: str, method: str
) -> None:
    way.proxy.inject(Fault(kind), method, "", times=2)
    way.store.push(snapshot, transfer())
    way.store.pull(snapshot.name, staging, transfer())
    assert_same(staging, snapshot)


def test_an_upload_whose_last_answer_was_lost_is_taken_for_what_it_is(
    way: Way, snapshot: Path
) -> None:
    way.proxy.inject(Fault("lost"), "POST", "uploadId")
    way.store.push(snapshot, transfer())
    assert way.store.has(snapshot.name)
    assert len(way.proxy.requests("POST", "uploadId")) == 2


def test_a_push_that_fails_leaves_no_snapshot_and_goes_on_the_next_time(
    way: Way, snapshot: Path
) -> None:
    way.proxy.inject(Fault("refused"), "PUT", "objects.pkl", times=ATTEMPTS)
    with pytest.raises(StoreUnavailable):
        way.store.push(snapshot, transfer())
    assert not way.store.has(snapshot.name)
    assert way.store.listing() == ()
    with pytest.raises(NotFound):
        way.store.manifest(snapshot.name)
    way.proxy.seen.clear()
    way.store.push(snapshot, transfer())
    assert way.store.has(snapshot.name)
    assert not way.proxy.requests("PUT", SLAB), "the slab was there already"


def test_an_upload_that_fails_leaves_no_parts_behind(way: Way, snapshot: Path) -> None:
    way.proxy.inject(Fault("refused"), "PUT", "partNumber=2", times=ATTEMPTS)
    with pytest.raises(StoreUnavailable):
        way.store.push(snapshot, transfer())
    assert not way.keys()
    assert not way.server.has_unfinished_uploads(way.bucket)


@pytest.mark.parametrize("patience_s", [0.5])
@pytest.mark.parametrize("direction", ["push", "pull"])
def test_a_copy_that_is_stopped_ends_at_once_with_all_its_threads(
    pushed: Way, snapshot: Path, staging: Path, direction: str
) -> None:
    if direction == "push":
        pushed.store.delete(snapshot.name)
        pushed.proxy.inject(Fault("held"), "PUT", SLAB, times=100)
    pushed.proxy.bytes_per_s = 100_000
    pushed.proxy.seen.clear()
    copy = transfer()
    failures: list[Exception] = []

    def run() -> None:
        try:
            if direction == "push":
                pushed.store.push(snapshot, copy)
            else:
                pushed.store.pull(snapshot.name, staging, copy)
        except StoreUnavailable as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    method = "PUT" if direction == "push" else "GET"
    while not pushed.proxy.requests(method, SLAB):
        time.sleep(0.01)
    copy.stop()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert "stopped" in str(failures)
    assert not [each for each in threading.enumerate() if each.name.startswith("snapshot")]
    deadline = time.monotonic() + 10  # the server may be slower than the client waits
    while pushed.server.has_unfinished_uploads(pushed.bucket):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_slow_store_is_waited_for_no_longer_than_the_time_limit(
    pushed: Way, snapshot: Path, staging: Path
) -> None:
    pushed.proxy.bytes_per_s = 100_000
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"longer than 0.5 s"):
        pushed.store.pull(snapshot.name, staging, transfer(0.5))
    assert time.monotonic() - began < 3


def test_a_full_disk_is_told_before_anything_is_pulled(
    pushed: Way, snapshot: Path, small_disk: Callable[[str], Path]
) -> None:
    place = small_disk("4m")
    with pytest.raises(StorageFull):
        pushed.store.pull(snapshot.name, place, transfer())
    assert not pushed.proxy.requests("GET", SLAB)


def test_a_pull_holds_little_of_the_snapshot_in_memory(
    pushed: Way, snapshot: Path, staging: Path
) -> None:
    # Not through the proxy, which is in this process and holds whole answers.
    bucket = Bucket(pushed.bucket, "some/place/", pushed.server.url, "us-east-1")
    store = S3SnapshotStore(bucket)
    store.has(snapshot.name)  # now boto3 has loaded what it needs
    tracemalloc.start()
    store.pull(snapshot.name, staging, transfer())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    store.close()
    assert peak_bytes < slab_size(snapshot) / 2


def test_wrong_credentials_and_a_missing_bucket_are_said_so_and_asked_once(
    way: Way, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = S3SnapshotStore(Bucket("not-there", "", way.proxy.url, "us-east-1"))
    with pytest.raises(StoreUnavailable, match="no bucket 'not-there'"):
        missing.listing()
    missing.close()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    stranger = S3SnapshotStore(Bucket(way.bucket, "", way.proxy.url, "us-east-1"))
    way.proxy.seen.clear()
    with pytest.raises(StoreUnavailable, match="403"):
        stranger.has(snapshot.name)
    stranger.close()
    assert len(way.proxy.seen) == 1
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    nobody = S3SnapshotStore(Bucket(way.bucket, "", way.proxy.url, "us-east-1"))
    with pytest.raises(StoreUnavailable, match="Unable to locate credentials"):
        nobody.has(snapshot.name)
    nobody.close()


def test_a_server_that_is_not_there_is_given_up_within_seconds(credentials: None) -> None:
    store = S3SnapshotStore(Bucket("bucket", "", "http://127.0.0.1:9", "us-east-1"))
    with pytest.raises(StoreUnavailable, match="Could not connect"):
        store.listing()
    store.close()


def test_a_server_whose_url_is_none_is_said_so(
    credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio")
    with pytest.raises(StoreUnavailable, match=r"s3://bucket/ cannot be used: Invalid endpoint: m"):
        S3SnapshotStore(Bucket("bucket")).listing()


def test_a_slab_of_too_many_parts_is_sent_in_larger_ones(
    way: Way, snapshot: Path, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_transfer, "MAX_PARTS", 2)
    way.store.push(snapshot, transfer())
    assert len(way.proxy.requests("PUT", "partNumber")) == 2
    way.store.pull(snapshot.name, staging, transfer())
    assert_same(staging, snapshot)


def test_a_listing_has_an_end(pushed: Way, snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [found.digest for found in pushed.store.listing()] == [snapshot.name]
    monkeypatch.setattr(s3_bucket, "MAX_KEYS", len(pushed.keys()) - 1)
    (found,) = pushed.store.listing()
    assert found.bytes < slab_size(snapshot), "one object was not looked at"


def test_what_was_pulled_is_sound(pushed: Way, snapshot: Path, staging: Path) -> None:
    pushed.store.pull(snapshot.name, staging, transfer())
    assert read_manifest(staging)[0] == snapshot.name
    assert is_sound(staging, transfer())
