"""Restores a captured state over the mapped slabs, without copying its tensors."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from dsfn.functions.errors import SnapshotError
from dsfn.functions.values import dataclass
from dsfn.snapshots.capture import library_versions
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.format import CPU, OBJECTS_FILE, Manifest, corrupt
from dsfn.snapshots.gate import gated
from dsfn.snapshots.memory import Memory, Slab
from dsfn.snapshots.pickling import load_state
from dsfn.snapshots.reading import read_file, read_manifest
from dsfn.snapshots.tensors import build_tensors, map_storages


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored state: the attributes by name, and the slabs that their tensors lie in.

    `slabs` are by their device, in the manifest's order, `tensors` those of its table, in
    its order.
    """

    digest: str
    manifest: Manifest
    state: dict[str, object]
    slabs: Mapping[str, Slab]
    tensors: tuple[torch.Tensor, ...]


def restore(
    directory: Path,
    classes: Classes,
    memories: Mapping[str, Memory],
    instance: object | None = None,
    *,
    streams: bool = False,
) -> Restored:
    """Restores the snapshot in `directory`; `instance`, if given, gets the attributes.

    `memories`: what this process has, by the names that the format gives to devices
    ("cpu", "gpu:0", ...). `instance` is a bare instance (`cls.__new__(cls)`); the state's
    references to itself become references to it. Checks the manifest, the objects'
    digest and every size; the slabs' own bytes and the versions of libraries are
    `verify`'s matter. Raises `CorruptSnapshot`, or `SnapshotError` if the snapshot does
    not fit this process.

    With `streams` the slabs may still be on their way when this returns (see
    `dsfn.snapshots.gate`), and `ReplicaLost` may be raised as well.
    """
    with _gc_paused():
        restored = _restore(directory, classes, memories, instance, streams)
    if instance is not None:
        for name, value in restored.state.items():
            object.__setattr__(instance, name, value)
    return restored


def _restore(
    directory: Path,
    classes: Classes,
    memories: Mapping[str, Memory],
    instance: object | None,
    streams: bool,
) -> Restored:
    digest, manifest = read_manifest(directory, through_links=True)
    _check_fits(manifest, memories)
    objects = read_file(directory, manifest, OBJECTS_FILE)
    slabs: dict[str, Slab] = {}
    with ExitStack() as mapped:  # whatever fails, no slab must stay behind
        for entry in manifest.slabs:
            slab = memories[entry.device].map(directory, entry)
            mapped.callback(slab.close)
            slabs[entry.device] = slab
        storages = map_storages(tuple(slabs.values()), manifest.storages)
        tensors = build_tensors(manifest.tensors, storages)
        if not streams:
            for slab in slabs.values():
                slab.unpark()
        with gated(tuple(slabs.values())):
            state = _load(objects, tensors, classes, instance)
        mapped.pop_all()
    return Restored(digest, manifest, state, slabs, tuple(tensors))


def _check_fits(manifest: Manifest, memories: Mapping[str, Memory]) -> None:
    devices = [slab.device for slab in manifest.slabs]
    missing = [device for device in devices if device not in memories]
    if missing:
        raise SnapshotError(
            f"The snapshot needs {', '.join(missing)}, and this process has"
            f" {', '.join(memories) or 'no memory'}."
        )
    # A state on the CPU alone is the CPU's, whatever else this process has.
    gpus = {memories[device].device_class for device in devices if device != CPU}
    here = (*library_versions(), ", ".join(sorted(gpus)) or CPU)
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
