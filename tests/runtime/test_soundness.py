from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from revisions import make_revision

from dsfn.functions.errors import CorruptSnapshot, SnapshotError
from dsfn.runtime.deploy.environments import Environments
from dsfn.runtime.model import Revision, SnapshotRef
from dsfn.runtime.replicas import soundness as soundness_module
from dsfn.runtime.replicas.soundness import Soundness
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.format import Origin, slab_file
from dsfn.snapshots.store import FileStore

SLAB_FILE = slab_file("cpu")


class Reads:
    """Counts the bytes that are hashed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        monkeypatch.setattr(soundness_module, "sha256", self._sha256)

    def _sha256(self) -> Reads._Hash:
        return Reads._Hash(self)

    class _Hash:
        def __init__(self, reads: Reads) -> None:
            self._reads = reads
            self._hash = hashlib.sha256()

        def update(self, data: memoryview) -> None:
            self._reads.bytes += len(data)
            self._hash.update(data)

        def hexdigest(self) -> str:
            return self._hash.hexdigest()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture
def soundness(tmp_path: Path) -> Soundness:
    """Of a node that has just started."""
    return fresh(tmp_path)


def fresh(tmp_path: Path) -> Soundness:
    return Soundness(tmp_path / "snapshots", Environments(tmp_path / "environments"))


def published(tmp_path: Path, origin: Origin = Origin(), place: str = "cpu") -> Revision:  # noqa: B008
    """A revision whose snapshot is on the disk."""
    store = FileStore(tmp_path / "snapshots")
    staging = store.stage()
    weights = torch.arange(1 << 20, dtype=torch.int32)
    capture({"w": weights}, Classes(), staging, origin=origin, place=lambda _: place)
    found = store.publish(staging)
    return replace(make_revision(1), snapshot=SnapshotRef(found.digest, found.bytes))


def check(soundness: Soundness, *revisions: Revision) -> None:
    """What each start of a replica does, all at once."""

    async def scenario() -> None:
        checks = [
            soundness.check(each, each.snapshot) for each in revisions if each.snapshot is not None
        ]
        await asyncio.gather(*checks)

    asyncio.run(scenario())


def slab_of(tmp_path: Path, revision: Revision) -> Path:
    assert revision.snapshot is not None
    return tmp_path / "snapshots" / revision.snapshot.digest / SLAB_FILE


def flip(path: Path, at: int) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_a_slab_is_read_once_however_many_replicas_start(
    soundness: Soundness, reads: Reads, tmp_path: Path
) -> None:
    revision = published(tmp_path)
    check(soundness, revision, revision, revision)
    check(soundness, revision)
    assert reads.bytes == slab_of(tmp_path, revision).stat().st_size


def test_what_a_replica_has_otherwise_in_memory_is_read_again(
    soundness: Soundness, reads: Reads, tmp_path: Path
) -> None:
    revision = published(tmp_path)
    check(soundness, revision)
    assert revision.snapshot is not None
    soundness.distrust(revision.snapshot)
    check(soundness, revision)
    assert reads.bytes == 2 * slab_of(tmp_path, revision).stat().st_size


def test_a_byte_that_was_flipped_at_rest_is_found_before_the_first_use(
    soundness: Soundness, tmp_path: Path
) -> None:
    revision = published(tmp_path)
    flip(slab_of(tmp_path, revision), -1 % slab_of(tmp_path, revision).stat().st_size)
    for _ in range(2):
        with pytest.raises(CorruptSnapshot, match=r"slab-cpu\.safetensors differ"):
            check(soundness, revision)


def test_a_byte_that_is_flipped_while_the_node_runs_is_found_at_the_next_start(
    soundness: Soundness, tmp_path: Path
) -> None:
    revision = published(tmp_path)
    check(soundness, revision)
    flip(slab_of(tmp_path, revision), 1 << 20)
    with pytest.raises(CorruptSnapshot):
        check(soundness, revision)


@pytest.mark.parametrize("harm", ["truncated", "missing", "unreadable"])
def test_a_slab_that_is_not_whole_is_found(soundness: Soundness, tmp_path: Path, harm: str) -> None:
    revision = published(tmp_path)
    slab = slab_of(tmp_path, revision)
    slab.chmod(0o600)
    if harm == "truncated":
        os.truncate(slab, 8192)
    else:
        size = slab.stat().st_size
        slab.unlink()
        if harm == "unreadable":
            slab.mkdir()
            soundness._sound.clear()
            assert size
    with pytest.raises(CorruptSnapshot):
        check(soundness, revision)


def test_what_a_deployment_has_just_verified_is_not_read_again(
    soundness: Soundness, reads: Reads, tmp_path: Path
) -> None:
    revision = published(tmp_path)
    assert revision.snapshot is not None
    soundness.trust(revision.snapshot)
    check(soundness, revision)
    assert reads.bytes == 0
    flip(slab_of(tmp_path, revision), 5000)
    with pytest.raises(CorruptSnapshot):
        check(soundness, revision)


def test_what_is_checked_ahead_keeps_no_call_waiting(reads: Reads, tmp_path: Path) -> None:
    good, bad = published(tmp_path), published(tmp_path, Origin(code="c" * 64))
    flip(slab_of(tmp_path, bad), 5000)

    async def scenario() -> None:
        soundness = fresh(tmp_path)
        soundness.check_ahead((bad, make_revision(2), good))
        assert soundness._ahead is not None
        async with asyncio.timeout(30):
            await soundness._ahead
        before = reads.bytes
        assert good.snapshot is not None
        await soundness.check(good, good.snapshot)
        assert reads.bytes == before > 0

    asyncio.run(scenario())


def test_a_node_that_stops_does_not_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = published(tmp_path)
    monkeypatch.setattr(soundness_module, "_PIECE_BYTES", 1)  # it would take for ever

    async def scenario() -> None:
        soundness = fresh(tmp_path)
        soundness.check_ahead((revision,))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await soundness.close()
        assert soundness._sound == {}

    asyncio.run(scenario())


def test_a_gpus_slab_is_left_to_the_arena(
    soundness: Soundness, reads: Reads, tmp_path: Path
) -> None:
    check(soundness, published(tmp_path, place="gpu:0"))
    assert reads.bytes == 0


@pytest.mark.parametrize(("library", "has"), [("numpy", "has "), ("no-such", "does not have it")])
def test_other_versions_of_libraries_are_named(
    soundness: Soundness, tmp_path: Path, library: str, has: str
) -> None:
    revision = published(tmp_path, Origin(libraries={library: "0.1"}))
    with pytest.raises(SnapshotError, match=f"captured with {library} 0.1, and this .* {has}"):
        check(soundness, revision)


def test_a_library_of_the_functions_own_environment_comes_first(
    soundness: Soundness, tmp_path: Path
) -> None:
    packages = tmp_path / "environments" / "env" / "lib" / "python3.11" / "site-packages"
    metadata = packages / "numpy-0.1.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    revision = published(tmp_path, Origin(libraries={"numpy": "0.1"}))
    check(soundness, replace(revision, environment="env"))
