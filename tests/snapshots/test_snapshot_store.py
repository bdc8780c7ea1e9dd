from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dsfn.functions.errors import CorruptSnapshot, NotFound, StorageFull
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.format import MANIFEST_FILE, slab_file
from dsfn.snapshots.restore import restore
from dsfn.snapshots.store import FileStore

SLAB_FILE = slab_file("cpu")


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "snapshots")


def staged(store: FileStore, number: float = 1.0) -> Path:
    staging = store.stage()
    capture({"weight": torch.full((3,), number)}, Classes(), staging)
    return staging


def test_a_published_snapshot_is_found_by_its_digest(store: FileStore) -> None:
    staging = staged(store)
    published = store.publish(staging)
    path = store.path(published.digest)
    assert not staging.exists()
    assert store.digests() == (published.digest,)
    assert published.bytes == sum(
        p.stat().st_size for p in path.iterdir() if p.name != MANIFEST_FILE
    )
    assert restore(path, Classes(), {"cpu": CpuMemory()}).digest == published.digest


def test_publishing_the_same_twice_is_one_snapshot(store: FileStore, tmp_path: Path) -> None:
    first, second = staged(store), staged(store)
    assert store.publish(first) == store.publish(second)
    assert len(list((tmp_path / "snapshots").iterdir())) == 1


def test_other_weights_are_another_snapshot(store: FileStore) -> None:
    digests = {store.publish(staged(store, number)).digest for number in (1.0, 2.0)}
    assert set(store.digests()) == digests
    assert len(digests) == 2


def test_what_is_not_a_snapshot_is_not_published(store: FileStore) -> None:
    with pytest.raises(CorruptSnapshot, match="missing"):
        store.publish(store.stage())
    staging = staged(store)
    os.truncate(staging / SLAB_FILE, 4096)
    with pytest.raises(CorruptSnapshot, match=SLAB_FILE):
        store.publish(staging)
    assert store.digests() == ()


def test_a_deleted_snapshot_is_gone_for_all_but_those_who_have_it(store: FileStore) -> None:
    digest = store.publish(staged(store)).digest
    restored = restore(store.path(digest), Classes(), {"cpu": CpuMemory()})
    store.delete(digest)
    assert store.digests() == ()
    assert torch.equal(restored.tensors[0], torch.ones(3))
    with pytest.raises(NotFound):
        store.path(digest)
    with pytest.raises(NotFound):
        store.delete(digest)


def test_only_digests_are_paths(store: FileStore) -> None:
    for name in ("", "..", "../snapshots", "A" * 64):
        with pytest.raises(NotFound):
            store.path(name)


def test_cleaning_drops_what_is_half_done_and_nothing_else(
    store: FileStore, tmp_path: Path
) -> None:
    digest = store.publish(staged(store)).digest
    staged(store)
    (tmp_path / "snapshots" / ".trash-1").mkdir()
    store.clean()
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == [digest]


def test_a_full_disk_is_a_clear_error(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = staged(store)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(StorageFull):
        store.publish(staging)
    assert store.digests() == ()


def test_the_store_needs_no_torch() -> None:
    code = (
        "import sys, dsfn.snapshots.store, dsfn.snapshots.slab; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
