"""Stores that nodes share: what holds for each of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from s3_server import S3Server

from dsfn.functions.errors import CorruptSnapshot, NotFound, StoreUnavailable
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.format import MANIFEST_FILE
from dsfn.snapshots.restore import restore
from dsfn.snapshots.s3 import S3SnapshotStore
from dsfn.snapshots.s3_bucket import Bucket
from dsfn.snapshots.shared import SharedDirectory
from dsfn.snapshots.store import FileStore, SnapshotStore
from dsfn.snapshots.transfer import Transfer


@dataclass(frozen=True, slots=True)
class Shared:
    """A store, and its files by key as they lie on the server."""

    store: SnapshotStore
    files: Callable[[], dict[str, Path]]


@pytest.fixture(params=["s3", "directory"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shared]:
    """A store of each kind, empty."""
    if request.param == "directory":
        root = tmp_path / "shared"
        root.mkdir()
        found = SharedDirectory(root)
        yield Shared(found, lambda: {str(p.relative_to(root)): p for p in root.glob("*/*")})
        return
    request.getfixturevalue("credentials")
    server: S3Server = request.getfixturevalue("s3")
    name = server.make_bucket()
    store = S3SnapshotStore(Bucket(name, endpoint_url=server.url, region="us-east-1"))
    yield Shared(store, lambda: server.files(name))
    store.close()


@pytest.fixture
def local(tmp_path: Path) -> FileStore:
    """The snapshots of one node."""
    return FileStore(tmp_path / "local")


@pytest.fixture
def other(tmp_path: Path) -> FileStore:
    """The snapshots of another node."""
    return FileStore(tmp_path / "other")


def published(local: FileStore, number: float = 1.0) -> str:
    """The digest of a new snapshot."""
    staging = local.stage()
    capture({"weight": torch.full((5000,), number)}, Classes(), staging)
    return local.publish(staging).digest


def transfer() -> Transfer:
    return Transfer(60)


def damage(path: Path) -> None:
    """Flips a bit in the last byte."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


def slab_of(directory: Path) -> str:
    """The name of the slab's file."""
    (slab,) = directory.glob("slab*.safetensors")
    return slab.name


def test_what_one_node_pushes_another_pulls_and_restores(
    shared: Shared, local: FileStore, other: FileStore
) -> None:
    digest = published(local)
    pushed = shared.store.push(local.path(digest), transfer())
    assert shared.store.has(digest)
    assert shared.store.listing() == (pushed,)
    assert shared.store.manifest(digest).digest == digest
    staging, copy = other.stage(), transfer()
    shared.store.pull(digest, staging, copy)
    assert copy.done_bytes == copy.total_bytes == pushed.bytes
    assert other.publish(staging) == pushed
    restored = restore(other.path(digest), Classes(), {"cpu": CpuMemory()})
    assert torch.equal(restored.tensors[0], torch.ones(5000))


def test_objects_lie_under_their_digest(shared: Shared, local: FileStore) -> None:
    digest = published(local)
    shared.store.push(local.path(digest), transfer())
    assert set(shared.files()) == {f"{digest}/{p.name}" for p in local.path(digest).iterdir()}


def test_what_is_there_is_not_written_again(shared: Shared, local: FileStore) -> None:
    digest = published(local)
    first = shared.store.push(local.path(digest), transfer())
    before = {key: path.stat().st_mtime_ns for key, path in shared.files().items()}
    assert shared.store.push(local.path(digest), transfer()) == first
    assert {key: path.stat().st_mtime_ns for key, path in shared.files().items()} == before


def test_damage_on_the_local_disk_is_not_pushed(shared: Shared, local: FileStore) -> None:
    digest = published(local)
    damage(local.path(digest) / slab_of(local.path(digest)))
    with pytest.raises(CorruptSnapshot, match="differ from their digest"):
        shared.store.push(local.path(digest), transfer())
    assert not shared.store.has(digest)
    assert shared.store.listing() == ()


@pytest.mark.parametrize("name", ["slab", "objects.pkl", MANIFEST_FILE])
def test_damage_in_the_store_is_found_by_whoever_pulls(
    shared: Shared, local: FileStore, other: FileStore, name: str
) -> None:
    digest = published(local)
    shared.store.push(local.path(digest), transfer())
    (path,) = (path for key, path in shared.files().items() if name in key)
    damage(path)
    with pytest.raises(CorruptSnapshot) as caught:
        shared.store.pull(digest, other.stage(), transfer())
    assert caught.value.fields["digest"] == digest


def test_a_file_that_is_cut_or_missing_in_the_store_is_found(
    shared: Shared, local: FileStore, other: FileStore
) -> None:
    digest = published(local)
    shared.store.push(local.path(digest), transfer())
    slab = shared.files()[f"{digest}/{slab_of(local.path(digest))}"]
    slab.chmod(0o644)
    os.truncate(slab, slab.stat().st_size - 1)
    with pytest.raises(CorruptSnapshot):
        shared.store.pull(digest, other.stage(), transfer())
    slab.unlink()
    with pytest.raises(CorruptSnapshot):
        shared.store.pull(digest, other.stage(), transfer())


def test_what_was_deleted_is_gone_and_can_be_pushed_again(shared: Shared, local: FileStore) -> None:
    kept, digest = published(local, 2.0), published(local)
    for each in (kept, digest):
        shared.store.push(local.path(each), transfer())
    shared.store.delete(digest)
    assert not shared.store.has(digest)
    assert [found.digest for found in shared.store.listing()] == [kept]
    for missing in (digest, "..", "nonsense"):
        with pytest.raises(NotFound):
            shared.store.delete(missing)
    shared.store.push(local.path(digest), transfer())
    assert shared.store.has(digest)


def test_what_is_not_there_is_not_found(shared: Shared, other: FileStore) -> None:
    for digest in ("0" * 64, "..", ""):
        assert not shared.store.has(digest)
        with pytest.raises(NotFound):
            shared.store.pull(digest, other.stage(), transfer())
        with pytest.raises(NotFound):
            shared.store.manifest(digest)


def test_a_copy_that_was_stopped_ends(shared: Shared, local: FileStore, other: FileStore) -> None:
    digest = published(local)
    stopped = transfer()
    stopped.stop()
    with pytest.raises(StoreUnavailable, match="stopped"):
        shared.store.push(local.path(digest), stopped)
    assert not shared.store.has(digest)
    shared.store.push(local.path(digest), transfer())
    late = Transfer(0)
    with pytest.raises(StoreUnavailable, match="longer than 0 s"):
        shared.store.pull(digest, other.stage(), late)


def test_a_directory_that_is_not_mounted_is_not_an_empty_store(tmp_path: Path) -> None:
    store = SharedDirectory(tmp_path / "not-there")
    for ask in (store.listing, lambda: store.has("0" * 64)):
        with pytest.raises(StoreUnavailable, match="No such directory"):
            ask()


def test_nothing_of_s3_is_imported_before_it_is_asked() -> None:
    code = (
        "import sys, dsfn.snapshots.s3 as s3, dsfn.snapshots.s3_bucket as b;"
        "s3.S3SnapshotStore(b.Bucket('name'));"
        "assert not {'boto3', 'botocore', 'urllib3', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
