"""Proves that a snapshot restores to the bytes that were captured."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from dsfn.snapshots.classes import Classes
from dsfn.snapshots.format import SLAB_FILE, corrupt
from dsfn.snapshots.memory import Memory
from dsfn.snapshots.restore import Restored, restore
from dsfn.snapshots.slab import Layout, check_frame, pieces, plan
from dsfn.snapshots.tensors import map_storages, storage_bytes, table_row


@dataclass(frozen=True, slots=True)
class Verified:
    """What was compared: how many tensors, how many bytes of the slab."""

    tensors: int
    bytes: int


def verify(
    directory: Path, classes: Classes, memory: Memory, instance: object | None = None
) -> Verified:
    """Restores the snapshot in `directory` and compares all of it with its manifest.

    Runs in a fresh process, after the import of the user's code and before its
    first call: the bytes that are compared are those that a call would find.
    Raises as `restore` does, `CorruptSnapshot` above all.
    """
    restored = restore(directory, classes, memory, instance)
    try:
        manifest = restored.manifest
        layout = plan(manifest.storages)
        if layout.storages != manifest.storages or len(layout.header) != manifest.data_offset:
            corrupt("the slab's layout is not the format's", restored.digest)
        check_frame(directory / SLAB_FILE, layout)
        _compare_bytes(restored, layout)
        _compare_tensors(restored)
        return Verified(len(manifest.tensors), manifest.slab.size_bytes)
    finally:
        restored.slab.close()


def _compare_bytes(restored: Restored, layout: Layout) -> None:
    digest = sha256()
    for piece in pieces(layout, map(_read_back, _storages(restored))):
        digest.update(piece)
    if digest.hexdigest() != restored.manifest.slab.digest:
        corrupt("the slab's bytes, restored, differ from those captured", restored.digest)


def _compare_tensors(restored: Restored) -> None:
    storages = _storages(restored)
    rows = restored.manifest.tensors
    for index, (row, tensor) in enumerate(zip(rows, restored.tensors, strict=True)):
        there = tensor.untyped_storage().data_ptr() == storages[row.storage].data_ptr()
        if not there or table_row(row.storage, tensor) != row:
            corrupt(f"tensor {index}, restored, differs from the one captured", restored.digest)


def _storages(restored: Restored) -> list[torch.UntypedStorage]:
    return map_storages(restored.slab, restored.manifest.storages)


def _read_back(storage: torch.UntypedStorage) -> memoryview:
    return storage_bytes(storage.cpu())  # type: ignore[no-untyped-call]  # torch leaves it so
