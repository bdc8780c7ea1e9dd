"""Links and other odd files in the place of a snapshot's: nothing is read through them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dsfn.functions.errors import CorruptSnapshot
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.format import MANIFEST_FILE, OBJECTS_FILE, slab_file
from dsfn.snapshots.regular import NotRegular, open_regular
from dsfn.snapshots.restore import restore
from dsfn.snapshots.sealed import check_files
from dsfn.snapshots.shared import SharedDirectory
from dsfn.snapshots.store import FileStore
from dsfn.snapshots.transfer import Transfer

FILES = [slab_file("cpu"), OBJECTS_FILE, MANIFEST_FILE]
SECRET = "a key that is nobody's business"


def linked(path: Path) -> None:
    other = path.with_name("elsewhere")
    path.rename(other)
    path.symlink_to(other)


def hollow(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def listening(path: Path) -> None:
    path.unlink()
    short = os.open(path.parent, os.O_PATH)  # names of sockets have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{short}/{path.name}")
    finally:
        os.close(short)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


ODD = [linked, hollow, listening, folder]


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "snapshots")


@pytest.fixture
def staging(store: FileStore) -> Path:
    staging = store.stage()
    capture({"weight": torch.ones(3)}, Classes(), staging)
    return staging


@pytest.mark.parametrize("odd", ODD)
def test_only_regular_files_are_opened(odd: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("content")
    with open_regular(path) as file:
        assert file.read() == b"content"
    odd(path)
    with pytest.raises(NotRegular, match="not a regular file"):
        open_regular(path)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", FILES)
def test_a_snapshot_of_odd_files_is_never_published(
    name: str, odd: Callable[[Path], None], store: FileStore, staging: Path
) -> None:
    odd(staging / name)
    with pytest.raises(CorruptSnapshot, match=f"{name} is not a regular file"):
        store.publish(staging)
    assert store.digests() == ()


def test_what_a_link_in_the_place_of_a_manifest_names_is_not_told(
    store: FileStore, staging: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(SECRET * 9)
    (staging / MANIFEST_FILE).unlink()
    (staging / MANIFEST_FILE).symlink_to(tmp_path / "secret")
    with pytest.raises(CorruptSnapshot) as caught:
        store.publish(staging)
    assert SECRET[:9] not in f"{caught.value.message} {caught.value.fields}"


@pytest.mark.parametrize("odd", [linked, hollow])
@pytest.mark.parametrize("name", FILES)
def test_a_published_snapshot_that_became_odd_is_damaged_wherever_it_is_read(
    name: str, odd: Callable[[Path], None], store: FileStore, staging: Path, tmp_path: Path
) -> None:
    directory = store.path(store.publish(staging).digest)
    odd(directory / name)
    (tmp_path / "shared").mkdir()
    with pytest.raises(CorruptSnapshot, match="not a regular file"):
        check_files(directory, Transfer(60.0))
    with pytest.raises(CorruptSnapshot, match="not a regular file"):
        SharedDirectory(tmp_path / "shared").push(directory, Transfer(60.0))


def test_a_replica_starts_from_links_to_what_an_agent_has_opened(
    staging: Path, tmp_path: Path
) -> None:
    pod = tmp_path / "pod"
    pod.mkdir()
    for path in staging.iterdir():
        (pod / path.name).symlink_to(path)
    restored = restore(pod, Classes(), {"cpu": CpuMemory()})
    assert torch.equal(restored.tensors[0], torch.ones(3))


@pytest.mark.parametrize("name", FILES[1:])
def test_a_restore_never_waits_at_a_fifo(name: str, staging: Path) -> None:
    hollow(staging / name)
    with pytest.raises(CorruptSnapshot, match="not a regular file"):
        restore(staging, Classes(), {"cpu": CpuMemory()})
