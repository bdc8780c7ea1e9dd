"""Captures the state of a loaded function as a snapshot."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import torch

from dsfn.functions.errors import CaptureError, StorageFull
from dsfn.snapshots.blame import find_culprit
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.format import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    OBJECTS_FILE,
    SLAB_FILE,
    Manifest,
    Sealed,
    encode_manifest,
)
from dsfn.snapshots.pickling import dump_state
from dsfn.snapshots.slab import plan, write_slab
from dsfn.snapshots.tensors import TensorTable


def capture(state: object, classes: Classes, staging: Path) -> Manifest:
    """Writes the snapshot of `state` into the empty directory `staging`.

    `state` is a function's instance after `setup()` (its attributes are captured,
    references to itself stay such), or a mapping of attributes. It is left as it was.
    Raises `CaptureError` that names the attribute which cannot be captured, and
    `StorageFull`.
    """
    attributes = _attributes(state)
    instance = None if isinstance(state, Mapping) else state
    table = TensorTable()
    try:
        objects = dump_state(attributes, table, classes, instance)
    except Exception as error:  # pickling runs the objects' own code, which may raise anything
        raise _capture_error(attributes, error, classes, instance) from error
    try:
        return _write(staging, table, objects, _names(attributes, instance))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The disk has no room for the snapshot.") from error
        raise


def library_versions() -> tuple[str, str]:
    """Python's "major.minor" and torch's version: a snapshot fits these alone."""
    return ".".join(platform.python_version_tuple()[:2]), str(torch.__version__)


def _write(
    staging: Path, table: TensorTable, objects: memoryview, names: Mapping[int, str]
) -> Manifest:
    layout = plan(table.storages(names))
    slab = write_slab(staging / SLAB_FILE, layout, table.contents())
    _write_file(staging / OBJECTS_FILE, objects)
    python, torch_version = library_versions()
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        device_class=_device_class(table.device),
        python=python,
        torch=torch_version,
        slab=slab,
        data_offset=len(layout.header),
        objects=Sealed(sha256(objects).hexdigest(), len(objects)),
        storages=layout.storages,
        tensors=tuple(table.rows),
    )
    _write_file(staging / MANIFEST_FILE, encode_manifest(manifest))
    return manifest


def _device_class(device: torch.device | None) -> str:
    """As `Memory.device_class` of the device that the tensors are on."""
    if device is None or device.type == "cpu":
        return "cpu"
    return torch.cuda.get_device_name(device)


def _write_file(path: Path, data: bytes | memoryview) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _attributes(state: object) -> dict[str, object]:
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
    attributes: Mapping[str, object], error: Exception, classes: Classes, instance: object
) -> CaptureError:
    def attempt(value: object) -> Exception | None:
        try:
            dump_state(value, TensorTable(), classes, instance)
        except Exception as found:  # noqa: BLE001  # as in `capture`
            return found
        return None

    path, cause = find_culprit(attributes, error, attempt)
    deep = isinstance(cause, RecursionError)
    reason = "it is nested too deeply" if deep else str(cause) or type(cause).__name__
    return CaptureError(f"{path}: {reason}", path=path, reason=reason)
