"""Captures the state of a loaded function as a snapshot."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path

import torch

from dsfn.functions.errors import CaptureError, StorageFull
from dsfn.snapshots.blame import find_culprit
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.format import (
    FORMAT_VERSION,
    GOLDEN_FILE,
    MANIFEST_FILE,
    OBJECTS_FILE,
    GoldenEntry,
    Manifest,
    Origin,
    Sealed,
    SlabEntry,
    Storage,
    encode_manifest,
    slab_file,
)
from dsfn.snapshots.golden import Golden
from dsfn.snapshots.pickling import dump_state
from dsfn.snapshots.slab import plan, write_slab
from dsfn.snapshots.tensors import Arranged, Place, TensorTable, own_slab

_NO_ORIGIN = Origin()


def capture(
    state: object,
    classes: Classes,
    staging: Path,
    *,
    origin: Origin = _NO_ORIGIN,
    golden: Golden | None = None,
    first_use: Sequence[int] = (),
    place: Place = own_slab,
) -> Manifest:
    """Writes the snapshot of `state` into the empty directory `staging`.

    `state` is a function's instance after `setup()` (its attributes are captured,
    references to itself stay such), or a mapping of attributes. It is left as it was.
    `first_use`: the addresses of storages in the order in which a call uses them, which is
    that of the slabs then; what else is at an address does not matter. `place` says which
    slab a tensor belongs in; tensors that share memory go where the first of them goes.
    Raises `CaptureError` that names the attribute which cannot be captured, and
    `StorageFull`.
    """
    attributes = attributes_of(state)
    instance = None if isinstance(state, Mapping) else state
    table = TensorTable(place)
    try:
        objects = dump_state(attributes, table, classes, instance)
    except Exception as error:  # pickling runs the objects' own code, which may raise anything
        raise _capture_error(attributes, error, classes, instance, place) from error
    arranged = table.arranged(_names(attributes, instance), first_use)
    try:
        return _write(staging, arranged, objects, origin, golden)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The disk has no room for the snapshot.") from error
        raise


def library_versions() -> tuple[str, str]:
    """Python's "major.minor" and torch's version: a snapshot fits these alone."""
    return ".".join(platform.python_version_tuple()[:2]), str(torch.__version__)


def _write(
    staging: Path, arranged: Arranged, objects: memoryview, origin: Origin, golden: Golden | None
) -> Manifest:
    slabs, storages = _write_slabs(staging, arranged)
    python, torch_version = library_versions()
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        device_class=arranged.device_class,
        python=python,
        torch=torch_version,
        code=origin.code,
        options=origin.options,
        libraries=origin.libraries,
        slabs=slabs,
        objects=_write_file(staging / OBJECTS_FILE, objects),
        golden=None if golden is None else _write_golden(staging, golden),
        storages=storages,
        tensors=arranged.tensors,
    )
    _write_file(staging / MANIFEST_FILE, encode_manifest(manifest))
    return manifest


def _write_slabs(
    staging: Path, arranged: Arranged
) -> tuple[tuple[SlabEntry, ...], tuple[Storage, ...]]:
    """Writes the slabs: their entries, and the storages where they have been placed."""
    slabs: list[SlabEntry] = []
    placed: list[Storage] = []
    for index, device in enumerate(arranged.devices):
        layout = plan([storage for storage in arranged.storages if storage.slab == index])
        file = slab_file(device)
        contents = islice(arranged.contents, len(layout.storages))
        sealed = write_slab(staging / file, layout, contents)
        slabs.append(
            SlabEntry(
                device=device,
                file=file,
                digest=sealed.digest,
                size_bytes=sealed.size_bytes,
                data_offset=len(layout.header),
                first_use=arranged.first_use[index],
            )
        )
        placed += layout.storages
    return tuple(slabs), tuple(placed)


def _write_golden(staging: Path, golden: Golden) -> GoldenEntry:
    sealed = _write_file(staging / GOLDEN_FILE, golden.data)
    return GoldenEntry(golden.content_type, sealed.digest, sealed.size_bytes)


def _write_file(path: Path, data: bytes | memoryview) -> Sealed:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return Sealed(sha256(data).hexdigest(), len(data))


def attributes_of(state: object) -> dict[str, object]:
    """What is captured of `state`, by name."""
    if isinstance(state, Mapping):
        return dict(state)
    # What `object` itself says: the attributes, or a pair of those and the slots.
    found = object.__getstate__(state)
    merged: dict[str, object] = {}
    for part in found if isinstance(found, tuple) else (found,):
        merged.update(part or {})
    return merged


def _names(attributes: Mapping[str, object], instance: object) -> dict[int, str]:
    """Dotted names by the address of what they name."""
    names: dict[int, str] = {}
    for attribute, value in (*attributes.items(), ("", instance)):
        for name, tensor in _named_tensors(attribute, value):
            if tensor.layout is torch.strided and tensor.data_ptr():
                names.setdefault(tensor.data_ptr(), name)
    return names


def _named_tensors(attribute: str, value: object) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield attribute, value
    elif isinstance(value, torch.nn.Module):
        yield from value.named_parameters(prefix=attribute)
        yield from value.named_buffers(prefix=attribute)


def _capture_error(
    attributes: Mapping[str, object],
    error: Exception,
    classes: Classes,
    instance: object,
    place: Place,
) -> CaptureError:
    def attempt(value: object) -> Exception | None:
        try:
            dump_state(value, TensorTable(place), classes, instance)
        except Exception as found:  # noqa: BLE001  # as in `capture`
            return found
        return None

    path, cause = find_culprit(attributes, error, attempt)
    deep = isinstance(cause, RecursionError)
    reason = "it is nested too deeply" if deep else str(cause) or type(cause).__name__
    return CaptureError(f"{path}: {reason}", path=path, reason=reason)
