"""Reads a snapshot's manifest; nothing of it is used before all of it is validated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG

from dsfn.snapshots.format import (
    ALIGNMENT_BYTES,
    DEVICES,
    FORMAT_VERSION,
    FRAME_BODY_AT,
    FRAME_HEAD,
    FRAME_MIDDLE,
    FRAME_TAIL,
    ITEM_BYTES,
    MANIFEST_FILE,
    MAX_DIMENSIONS,
    MAX_LIBRARIES,
    MAX_MANIFEST_BYTES,
    PAGE_BYTES,
    SLAB_ITEM_BYTES,
    GoldenEntry,
    Manifest,
    Sealed,
    SlabEntry,
    Storage,
    TensorEntry,
    corrupt,
    is_digest,
    slab_file,
)
from dsfn.snapshots.regular import NotRegular, open_regular


def decode_manifest(data: bytes) -> tuple[str, Manifest]:
    """The digest and the manifest of a `manifest.json`, all of it validated.

    Raises `CorruptSnapshot`.
    """
    digest = str(data[len(FRAME_HEAD) : len(FRAME_HEAD) + 64], "latin-1")
    framed = data.startswith(FRAME_HEAD) and data.endswith(FRAME_TAIL)
    if not framed or data[FRAME_BODY_AT - len(FRAME_MIDDLE) : FRAME_BODY_AT] != FRAME_MIDDLE:
        corrupt("the manifest is not framed as the format says", digest)
    body = data[FRAME_BODY_AT : -len(FRAME_TAIL)]
    if sha256(body).hexdigest() != digest:
        corrupt("the manifest's bytes differ from its digest", digest)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        corrupt(f"the manifest is not JSON ({error})", digest)
    return digest, _manifest(document)


def read_manifest(directory: Path, *, through_links: bool = False) -> tuple[str, Manifest]:
    """The digest and the manifest of the snapshot in `directory`; the other files' sizes fit, and
    all are regular files. `through_links`: for who starts from it. In a pod it is made of links
    to what the node's agent has opened; elsewhere only code of functions puts links there.

    Raises `CorruptSnapshot`.
    """
    data = _read(directory / MANIFEST_FILE, MAX_MANIFEST_BYTES, through_links)
    digest, manifest = decode_manifest(data)
    if is_digest(directory.name) and directory.name != digest:
        corrupt("the manifest is another snapshot's than the directory's name says", digest)
    for name, sealed in manifest.files().items():
        try:
            found = (directory / name).stat(follow_symlinks=through_links)
        except FileNotFoundError:
            corrupt(f"{name} is missing", digest)
        if not S_ISREG(found.st_mode):
            corrupt(f"{name} is not a regular file", digest)
        if found.st_size != sealed.size_bytes:
            corrupt(f"{name} has {found.st_size} bytes instead of {sealed.size_bytes}", digest)
    return digest, manifest


def read_file(directory: Path, manifest: Manifest, name: str) -> bytes:
    """A small file of the snapshot in `directory`, by its name in `Manifest.files()`, for who
    starts from it.

    Raises `CorruptSnapshot` if it is not the one that the manifest says.
    """
    sealed = manifest.files()[name]
    data = _read(directory / name, sealed.size_bytes, through_links=True)
    if sha256(data).hexdigest() != sealed.digest:
        corrupt(f"the bytes of {name} differ from their digest", manifest.digest)
    return data


def _read(path: Path, limit_bytes: int, through_links: bool) -> bytes:
    try:
        with open_regular(path, through_links=through_links) as file:
            data = file.read(limit_bytes + 1)
    except FileNotFoundError:
        corrupt(f"{path.name} is missing")
    except NotRegular:
        corrupt(f"{path.name} is not a regular file")
    if len(data) > limit_bytes:
        corrupt(f"{path.name} is over the limit of {limit_bytes} bytes")
    return data


def _manifest(document: object) -> Manifest:
    row = _row(document)
    if row.get("format_version") != FORMAT_VERSION:
        corrupt(f"format version {row.get('format_version')!r} is not {FORMAT_VERSION}")
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        device_class=_text(row, "device_class"),
        python=_text(row, "python"),
        torch=_text(row, "torch"),
        code=_origin(row, "code"),
        options=_origin(row, "options"),
        libraries=_libraries(row.get("libraries")),
        slabs=tuple(map(_slab, _list(row, "slabs"))),
        objects=_sealed(row.get("objects")),
        golden=_golden(row.get("golden")),
        storages=tuple(map(_storage, _list(row, "storages"))),
        tensors=tuple(map(_tensor, _list(row, "tensors"))),
    )
    _check_slabs(manifest)
    _check_storages(manifest)
    _check_tensors(manifest)
    return manifest


def _check_slabs(manifest: Manifest) -> None:
    last = -1
    for slab in manifest.slabs:
        if slab.device not in DEVICES:
            corrupt(f"there is no device {slab.device!r}")
        if DEVICES.index(slab.device) <= last:
            corrupt(f"the slab of {slab.device} is there twice or in the wrong place")
        last = DEVICES.index(slab.device)
        if slab.file != slab_file(slab.device):
            corrupt(f"{slab.file!r} is not how the slab of {slab.device} is called")
        if slab.data_offset % PAGE_BYTES or not slab.data_offset:
            corrupt(f"the data of {slab.file} begins at {slab.data_offset}, which is no page")


def _check_storages(manifest: Manifest) -> None:
    ends: list[int] = []
    counts: list[int] = []  # no Counter: making one looks at pages that a fresh fork still shares
    names: set[str] = set()
    for storage in manifest.storages:
        if storage.slab >= len(manifest.slabs):
            corrupt(f"storage {storage.name!r} is in slab {storage.slab}, which there is not")
        if storage.slab == len(ends):
            ends.append(0)
            counts.append(0)
        if storage.slab != len(ends) - 1:
            corrupt("the storages are not in the order of the slabs")
        if storage.offset != ends[-1] + -ends[-1] % ALIGNMENT_BYTES:
            corrupt(f"storage {storage.name!r} is not where the one before it ends")
        if storage.name in names or storage.name.startswith("__"):
            corrupt(f"storage name {storage.name!r} is taken")
        _check_size(storage)
        ends[-1] = storage.offset + storage.size_bytes
        counts[-1] += 1
        names.add(storage.name)
    if ends != [slab.data_bytes for slab in manifest.slabs]:
        corrupt("the storages do not fill the slabs")
    for slab, count in zip(manifest.slabs, counts, strict=True):
        if slab.first_use > count:
            corrupt(f"more storages of {slab.file} were used than it has")


def _check_size(storage: Storage) -> None:
    size = SLAB_ITEM_BYTES.get(storage.dtype)
    if size is None:
        corrupt(f"storage {storage.name!r} has the unknown dtype {storage.dtype!r}")
    for length in storage.shape:
        size *= length
    if size != storage.size_bytes:
        corrupt(f"storage {storage.name!r} has {storage.size_bytes} bytes, its shape says {size}")


def _check_tensors(manifest: Manifest) -> None:
    storages = manifest.storages
    for index, tensor in enumerate(manifest.tensors):
        item_bytes = ITEM_BYTES.get(tensor.dtype)
        if item_bytes is None:
            corrupt(f"tensor {index} has the unknown dtype {tensor.dtype!r}")
        if len(tensor.shape) != len(tensor.stride) or len(tensor.shape) > MAX_DIMENSIONS:
            corrupt(f"tensor {index} has a stride that does not fit its shape")
        if tensor.storage >= len(storages):
            corrupt(f"tensor {index} is in storage {tensor.storage}, which there is not")
        end = tensor.offset
        if 0 not in tensor.shape:
            end += 1
            for length, step in zip(tensor.shape, tensor.stride, strict=True):
                end += (length - 1) * step
        if end * item_bytes > storages[tensor.storage].size_bytes:
            corrupt(f"tensor {index} reaches beyond its storage")


def _storage(document: object) -> Storage:
    row = _row(document)
    return Storage(
        slab=_count(row, "slab"),
        name=_text(row, "name"),
        offset=_count(row, "offset"),
        size_bytes=_count(row, "size_bytes"),
        dtype=_text(row, "dtype"),
        shape=_counts(row, "shape"),
    )


def _tensor(document: object) -> TensorEntry:
    row = _row(document)
    return TensorEntry(
        storage=_count(row, "storage"),
        dtype=_text(row, "dtype"),
        shape=_counts(row, "shape"),
        stride=_counts(row, "stride"),
        offset=_count(row, "offset"),
        requires_grad=_flag(row, "requires_grad"),
        parameter=_flag(row, "parameter"),
    )


def _slab(document: object) -> SlabEntry:
    row = _row(document)
    return SlabEntry(
        device=_text(row, "device"),
        file=_text(row, "file"),
        digest=_digest(row),
        size_bytes=_count(row, "size_bytes"),
        data_offset=_count(row, "data_offset"),
        first_use=_count(row, "first_use"),
    )


def _sealed(document: object) -> Sealed:
    row = _row(document)
    return Sealed(digest=_digest(row), size_bytes=_count(row, "size_bytes"))


def _golden(document: object) -> GoldenEntry | None:
    if document is None:
        return None
    row = _row(document)
    return GoldenEntry(
        content_type=_text(row, "content_type"),
        digest=_digest(row),
        size_bytes=_count(row, "size_bytes"),
    )


def _libraries(document: object) -> Mapping[str, str]:
    row = _row(document)
    if len(row) > MAX_LIBRARIES:
        corrupt(f"it names {len(row)} libraries, over the limit of {MAX_LIBRARIES}")
    return {name: _text(row, name) for name in row}


def _origin(row: Mapping[str, object], key: str) -> str:
    value = _text(row, key)
    if value and not is_digest(value):
        corrupt(f"{key!r} is not a sha256")
    return value


def _digest(row: Mapping[str, object]) -> str:
    value = _text(row, "digest")
    if not is_digest(value):
        corrupt(f"{value!r} is not a sha256")
    return value


def _row(value: object) -> Mapping[str, object]:
    if type(value) is not dict:
        corrupt("the manifest has something else where an object belongs")
    return value


def _list(row: Mapping[str, object], key: str) -> Sequence[object]:
    value = row.get(key)
    if type(value) is not list:
        corrupt(f"{key!r} is not an array")
    return value


def _text(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    if type(value) is not str:
        corrupt(f"{key!r} is not a string")
    return value


def _count(row: Mapping[str, object], key: str) -> int:
    value = row.get(key)
    if type(value) is not int or value < 0 or value >= 1 << 62:
        corrupt(f"{key!r} is not a count")
    return value


def _flag(row: Mapping[str, object], key: str) -> bool:
    value = row.get(key)
    if type(value) is not bool:
        corrupt(f"{key!r} is not true or false")
    return value


def _counts(row: Mapping[str, object], key: str) -> tuple[int, ...]:
    values = row.get(key)
    if type(values) is not list:
        corrupt(f"{key!r} is not an array")
    for value in values:
        if type(value) is not int or value < 0 or value >= 1 << 62:
            corrupt(f"{key!r} is not an array of counts")
    return tuple(values)
