"""Proves that a snapshot restores to the bytes that were captured."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from dsfn.functions.values import dataclass
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.format import SlabEntry, Storage, corrupt
from dsfn.snapshots.golden import read_golden
from dsfn.snapshots.libraries import check_libraries
from dsfn.snapshots.memory import Memory, Slab
from dsfn.snapshots.restore import Restored, restore
from dsfn.snapshots.slab import check_frame, pieces, plan
from dsfn.snapshots.tensors import map_storages, storage_bytes, table_row


@dataclass(frozen=True, slots=True)
class Verified:
    """What was compared: how many tensors, how many bytes of slabs."""

    tensors: int
    bytes: int


def verify(
    directory: Path,
    classes: Classes,
    memories: Mapping[str, Memory],
    instance: object | None = None,
) -> Verified:
    """Restores the snapshot in `directory` and compares all of it with its manifest.

    Runs in a fresh process, after the import of the user's code and before its
    first call: the bytes that are compared are those that a call would find.
    Raises as `restore` does, `CorruptSnapshot` above all, and `SnapshotError` if a
    library is of another version than at the capture.
    """
    restored = restore(directory, classes, memories, instance)
    try:
        manifest = restored.manifest
        check_libraries(manifest.libraries)
        read_golden(directory)
        for index, entry in enumerate(manifest.slabs):
            storages = [storage for storage in manifest.storages if storage.slab == index]
            slab = restored.slabs[entry.device]
            _compare_slab(directory, entry, storages, slab, restored.digest)
        _compare_tensors(restored)
        return Verified(len(manifest.tensors), manifest.slab_bytes)
    finally:
        for slab in restored.slabs.values():
            slab.close()


def _compare_slab(
    directory: Path, entry: SlabEntry, storages: list[Storage], slab: Slab, digest: str
) -> None:
    layout = plan(storages)
    if list(layout.storages) != storages or len(layout.header) != entry.data_offset:
        corrupt(f"the layout of {entry.file} is not the format's", digest)
    check_frame(directory / entry.file, layout)
    found = sha256()
    mapped = (slab.storage(storage.offset, storage.size_bytes) for storage in storages)
    for piece in pieces(layout, map(storage_bytes, mapped)):
        found.update(piece)
    if found.hexdigest() != entry.digest:
        corrupt(f"the bytes of {entry.file}, restored, differ from those captured", digest)


def _compare_tensors(restored: Restored) -> None:
    storages = map_storages(tuple(restored.slabs.values()), restored.manifest.storages)
    rows = restored.manifest.tensors
    for index, (row, tensor) in enumerate(zip(rows, restored.tensors, strict=True)):
        there = tensor.untyped_storage().data_ptr() == storages[row.storage].data_ptr()
        if not there or table_row(row.storage, tensor) != row:
            corrupt(f"tensor {index}, restored, differs from the one captured", restored.digest)
