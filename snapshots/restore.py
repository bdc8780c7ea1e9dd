"""Restores a captured state over the mapped slab, without copying its tensors."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from dsfn.functions.errors import SnapshotError
from dsfn.snapshots.capture import library_versions
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.format import OBJECTS_FILE, SLAB_FILE, Manifest, corrupt
from dsfn.snapshots.memory import Memory, Slab
from dsfn.snapshots.pickling import load_state
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.tensors import build_tensors, map_storages


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored state: the attributes by name, and the slab that their tensors lie in.

    `tensors` are those of the manifest's table, in its order.
    """

    digest: str
    manifest: Manifest
    state: dict[str, object]
    slab: Slab
    tensors: tuple[torch.Tensor, ...]


def restore(
    directory: Path, classes: Classes, memory: Memory, instance: object | None = None
) -> Restored:
    """Restores the snapshot in `directory`; `instance`, if given, gets the attributes.

    `instance` is a bare instance (`cls.__new__(cls)`); the state's references to
    itself become references to it. Checks the manifest, the objects' digest and
    every size; the slab's own bytes are `verify`'s matter. Raises `CorruptSnapshot`,
    or `SnapshotError` if the snapshot does not fit this process.
    """
    with _gc_paused():
        restored = _restore(directory, classes, memory, instance)
    if instance is not None:
        for name, value in restored.state.items():
            object.__setattr__(instance, name, value)
    return restored


def _restore(
    directory: Path, classes: Classes, memory: Memory, instance: object | None
) -> Restored:
    digest, manifest = read_manifest(directory)
    _check_fits(manifest, memory)
    objects = (directory / OBJECTS_FILE).read_bytes()
    if sha256(objects).hexdigest() != manifest.objects.digest:
        corrupt("the objects' bytes differ from their digest", digest)
    slab = memory.map(directory / SLAB_FILE, manifest.data_offset)
    try:
        tensors = build_tensors(manifest.tensors, map_storages(slab, manifest.storages))
        state = _load(objects, tensors, classes, instance)
    except BaseException:  # whatever it was goes on; the slab must not stay behind
        slab.close()
        raise
    return Restored(digest, manifest, state, slab, tuple(tensors))


def _check_fits(manifest: Manifest, memory: Memory) -> None:
    here = (*library_versions(), memory.device_class)
    there = (manifest.python, manifest.torch, manifest.device_class)
    for what, ours, theirs in zip(("Python", "torch", "device"), here, there, strict=True):
        if ours != theirs:
            raise SnapshotError(
                f"The snapshot was captured with {what} {theirs}, and this process has {ours}."
            )


def _load(
    objects: bytes, tensors: list[torch.Tensor], classes: Classes, instance: object | None
) -> dict[str, object]:
    try:
        state = load_state(objects, tensors, classes, instance)
    except SnapshotError:
        raise
    except Exception as error:  # unpickling runs the objects' own code, which may raise anything
        reason = f"{type(error).__name__}: {error}"
        message = f"The state cannot be restored ({reason})."
        raise SnapshotError(message, reason=reason) from error
    if type(state) is not dict:
        corrupt("the objects are not a state")
    return state


@contextmanager
def _gc_paused() -> Iterator[None]:
    # A restore makes many containers and no garbage; a full collection on the way would look
    # at all of torch, and in a forked process copy what it looks at.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
