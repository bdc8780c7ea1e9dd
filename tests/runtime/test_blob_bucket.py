"""Blobs in an S3 bucket behind the node's folder, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from faulty_proxy import Fault, FaultyProxy, faulty_proxy
from s3_server import S3Server

from dsfn.billing.sqlite import connect
from dsfn.functions.errors import CorruptBlob, NotFound, StoreUnavailable
from dsfn.runtime.blobs import BlobStore, digest_of
from dsfn.runtime.blobs.bucket import FRESH_S, BlobBucket
from dsfn.runtime.blobs.opening import open_blobs
from dsfn.runtime.blobs.sweep import Sweeper
from dsfn.runtime.config import BlobSettings, Settings
from dsfn.snapshots import s3_bucket, s3_transfer
from dsfn.snapshots.s3_bucket import Bucket
from dsfn.snapshots.s3_transfer import PART_BYTES

DATA = b"what was heard" * 10_000
DIGEST = sha256(DATA).hexdigest()
# Travels in three parts.
LARGE = os.urandom(2 * PART_BYTES + 1000)
LARGE_DIGEST = sha256(LARGE).hexdigest()
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Place:
    """A node's blobs in a bucket that is reached through a proxy."""

    blobs: BlobStore
    root: Path
    proxy: FaultyProxy
    server: S3Server
    bucket: str

    def lose(self) -> None:
        """Empties the node's folder."""
        shutil.rmtree(self.root)
        self.proxy.seen.clear()

    def stored(self, digest: str) -> Path:
        """The object, as the file that the server keeps it in."""
        return self.server.files(self.bucket)[f"node/{digest[:2]}/{digest}"]

    def age(self, digest: str, hours: float) -> None:
        """Makes a blob as old as that, here and there."""
        then = time.time() - hours * HOUR_S
        for path in (self.stored(digest), self.root / digest[:2] / digest):
            if path.exists():
                os.utime(path, (then, then))

    def sent(self, digest: str) -> int:
        """How many requests have carried bytes of a blob there."""
        keys = (seen.path.partition("?")[0] for seen in self.proxy.requests("PUT", digest))
        return sum(key.endswith(digest) for key in keys)


@pytest.fixture
def place(
    s3: S3Server, credentials: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Place]:
    monkeypatch.setattr(s3_bucket, "READ_TIMEOUT_S", 0.5)
    monkeypatch.setattr(s3_transfer, "FIRST_PAUSE_S", 0.01)
    name = s3.make_bucket()
    with faulty_proxy(s3.port) as proxy:
        bucket = BlobBucket(Bucket(name, "node/", proxy.url, "us-east-1"), timeout_s=60)
        blobs = BlobStore(tmp_path / "blobs", bucket)
        yield Place(blobs, tmp_path / "blobs", proxy, s3, name)
        blobs.close()


@pytest.mark.parametrize("data", [b"", DATA, LARGE], ids=["empty", "small", "in parts"])
def test_what_is_put_is_in_the_bucket_and_comes_back_when_the_folder_is_lost(
    place: Place, data: bytes
) -> None:
    digest = digest_of(place.blobs.put(data, "audio/wav"))
    assert place.stored(digest).read_bytes() == data
    place.lose()
    assert place.blobs.exists(digest)
    assert place.blobs.get(digest) == (data, "audio/wav")
    place.proxy.seen.clear()
    assert place.blobs.get(digest) == (data, "audio/wav")
    assert not place.proxy.seen, "the second time it is in the folder"


def test_the_same_bytes_are_sent_once(place: Place) -> None:
    threads = [threading.Thread(target=place.blobs.put, args=(DATA,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place.blobs.put(DATA, "audio/flac")
    assert place.sent(DIGEST) == 1
    place.lose()
    assert place.blobs.get(DIGEST) == (DATA, "audio/flac"), "with the type given last"


def test_bytes_that_might_soon_be_collected_are_sent_again(place: Place) -> None:
    place.blobs.put(DATA)
    place.age(DIGEST, FRESH_S / HOUR_S + 1)
    place.blobs.put(DATA)
    assert place.sent(DIGEST) == 2
    place.age(DIGEST, FRESH_S / HOUR_S + 1)
    place.lose()
    place.blobs.keep(DIGEST)
    assert place.sent(DIGEST) == 1
    assert time.time() - place.stored(DIGEST).stat().st_mtime < HOUR_S


def test_workers_find_in_the_folder_what_was_asked_for(place: Place) -> None:
    for data in (DATA, LARGE):
        place.blobs.put(data)
    place.lose()
    missing = "ab" * 32
    asyncio.run(place.blobs.ensure([DIGEST, LARGE_DIGEST, missing]))
    assert (place.root / DIGEST[:2] / DIGEST).read_bytes() == DATA
    assert (place.root / LARGE_DIGEST[:2] / LARGE_DIGEST).read_bytes() == LARGE
    assert not place.blobs.exists(missing)


def test_calls_that_need_one_blob_at_the_same_time_share_one_pull(place: Place) -> None:
    place.blobs.put(LARGE)
    place.lose()

    async def main() -> None:
        await asyncio.gather(*(place.blobs.ensure([LARGE_DIGEST]) for _ in range(8)))

    asyncio.run(main())
    pulled = [seen for seen in place.proxy.requests("GET", LARGE_DIGEST) if seen.range]
    assert len(pulled) == 3, "its parts, once each"


def test_what_a_blob_is_is_known_when_the_folder_is_lost(place: Place) -> None:
    place.blobs.put(DATA, "audio/wav")
    place.lose()
    assert place.blobs.describe(DIGEST) == (len(DATA), "audio/wav")
    assert place.blobs.head(DIGEST, 4) == DATA[:4]


@pytest.mark.parametrize("kind", ["refused", "cut", "stalled", "lost"])
@pytest.mark.parametrize("data", [DATA, LARGE], ids=["small", "in parts"])
def test_a_put_goes_on_after_a_fault(place: Place, kind: str, data: bytes) -> None:
    place.proxy.inject(Fault(kind), "PUT", sha256(data).hexdigest(), times=2)
    digest = digest_of(place.blobs.put(data))
    assert place.stored(digest).read_bytes() == data


@pytest.mark.parametrize("kind", ["refused", "cut", "stalled", "flipped"])
@pytest.mark.parametrize("data", [DATA, LARGE], ids=["small", "in parts"])
def test_a_get_goes_on_after_a_fault_and_never_gives_other_bytes(
    place: Place, kind: str, data: bytes
) -> None:
    digest = digest_of(place.blobs.put(data, "image/png"))
    place.lose()
    place.proxy.inject(Fault(kind, 100), "GET", digest, times=1)
    assert place.blobs.get(digest) == (data, "image/png")


def test_what_is_damaged_in_the_bucket_is_refused_by_its_name_and_not_kept(place: Place) -> None:
    place.blobs.put(DATA)
    place.lose()
    place.stored(DIGEST).write_bytes(DATA[:-1] + b"?")
    with pytest.raises(CorruptBlob, match=DIGEST):
        place.blobs.get(DIGEST)
    assert not list(place.root.rglob(f"{DIGEST}*"))


def test_a_damaged_copy_in_the_folder_is_replaced_by_the_buckets(place: Place) -> None:
    place.blobs.put(DATA, "audio/wav")
    (place.root / DIGEST[:2] / DIGEST).write_bytes(DATA[:-1] + b"?")
    assert place.blobs.get(DIGEST) == (DATA, "audio/wav")
    (place.root / DIGEST[:2] / DIGEST).write_bytes(b"")
    asyncio.run(place.blobs.discard(DIGEST))
    asyncio.run(place.blobs.ensure([DIGEST]))
    assert (place.root / DIGEST[:2] / DIGEST).read_bytes() == DATA


def test_a_bucket_that_is_away_is_told_and_what_is_in_the_folder_is_read(place: Place) -> None:
    place.blobs.put(DATA)
    for method in ("PUT", "GET", "HEAD", "POST"):
        place.proxy.inject(Fault("refused"), method, "", times=1000)
    with pytest.raises(StoreUnavailable):
        place.blobs.put(b"new")
    assert place.blobs.get(DIGEST)[0] == DATA
    place.lose()
    with pytest.raises(StoreUnavailable):
        asyncio.run(place.blobs.ensure([DIGEST]))


def test_what_is_nowhere_is_not_found(place: Place) -> None:
    for digest in ("ab" * 32, "../../secret", ""):
        assert not place.blobs.exists(digest)
        with pytest.raises(NotFound):
            place.blobs.get(digest)
        with pytest.raises(NotFound):
            place.blobs.keep(digest)


def test_what_nothing_refers_to_leaves_the_bucket_and_what_is_unused_the_folder(
    place: Place, tmp_path: Path
) -> None:
    needed = digest_of(place.blobs.put(b"needed"))
    outer_body = json.dumps({"$ref": f"blob:sha256:{needed}"}).encode()
    outer = digest_of(place.blobs.put(outer_body, "application/json"))
    garbage = digest_of(place.blobs.put(b"garbage"))
    young = digest_of(place.blobs.put(b"young"))
    for digest in (needed, outer, garbage):
        place.age(digest, 25)
    connect(tmp_path / "node.db", "CREATE TABLE refs (ref TEXT)").close()
    sweeper = Sweeper(place.blobs, tmp_path / "node.db", [lambda _: [f"blob:sha256:{outer}"]])
    assert sweeper.sweep() == 1
    assert not place.blobs.exists(garbage)
    kept = {path.name for path in place.root.rglob("*") if path.is_file()}
    assert kept == {young, f"{young}.type", f"{outer}.links"}
    assert place.blobs.exists(needed) and place.blobs.exists(outer)
    assert sweeper.sweep() == 0, "that one refers to another is known without its bytes"
    assert place.blobs.get(needed)[0] == b"needed"
    assert place.blobs.get(outer)[0] == outer_body


def test_what_another_blob_refers_to_stays_when_the_folder_is_lost(
    place: Place, tmp_path: Path
) -> None:
    needed = digest_of(place.blobs.put(b"needed"))
    outer_body = json.dumps({"$ref": f"blob:sha256:{needed}"}).encode()
    outer = digest_of(place.blobs.put(outer_body, "application/json"))
    for digest in (needed, outer):
        place.age(digest, 25)
    place.lose()
    connect(tmp_path / "node.db", "").close()
    refs = [f"blob:sha256:{outer}"]
    assert Sweeper(place.blobs, tmp_path / "node.db", [lambda _: refs]).sweep() == 0
    refs.clear()
    assert Sweeper(place.blobs, tmp_path / "node.db", [lambda _: refs]).sweep() >= 1
    assert not place.blobs.exists(outer)


def test_what_a_call_has_just_asked_for_is_not_taken_away(place: Place, tmp_path: Path) -> None:
    digest = digest_of(place.blobs.put(DATA))
    place.age(digest, 25)
    place.lose()
    asyncio.run(place.blobs.ensure([digest]))
    connect(tmp_path / "node.db", "").close()
    assert Sweeper(place.blobs, tmp_path / "node.db", []).sweep() == 0
    assert (place.root / digest[:2] / digest).exists()
    assert place.blobs.exists(digest)


def test_each_node_has_a_folder_of_its_own_in_the_bucket_for_good(
    s3: S3Server, credentials: None, tmp_path: Path
) -> None:
    bucket = s3.make_bucket()
    table = BlobSettings(f"s3://{bucket}/team/a", s3.url, "us-east-1")
    for name, data in (("one", b"1"), ("two", b"2"), ("one", b"3")):
        blobs = open_blobs(Settings(tmp_path / name, blobs=table))
        blobs.put(data)
        blobs.close()
    folders = {key.rsplit("/", 2)[0] for key in s3.files(bucket)}
    assert len(folders) == 2
    assert all(folder.startswith("team/a/") for folder in folders)
