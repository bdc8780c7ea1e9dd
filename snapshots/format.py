"""The manifest of a snapshot: what its slab and its objects are, byte for byte.

`docs/snapshot-format.md` specifies the format. Everything here is checked before
anything is used, and nothing here needs torch: the node reads manifests too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import NoReturn

from dsfn.functions.errors import CorruptSnapshot

FORMAT_VERSION = 1
SLAB_FILE = "slab.safetensors"
OBJECTS_FILE = "objects.pkl"
MANIFEST_FILE = "manifest.json"
PAGE_BYTES = 4096
ALIGNMENT_BYTES = 64
MAX_MANIFEST_BYTES = 256 << 20
MAX_DIMENSIONS = 64

# What torch calls a dtype: bytes an element, and what safetensors calls it (U8: it has no word).
_DTYPES: Mapping[str, tuple[int, str]] = {
    "bool": (1, "BOOL"),
    "uint8": (1, "U8"),
    "int8": (1, "I8"),
    "uint16": (2, "U16"),
    "int16": (2, "I16"),
    "uint32": (4, "U32"),
    "int32": (4, "I32"),
    "uint64": (8, "U64"),
    "int64": (8, "I64"),
    "float8_e4m3fn": (1, "F8_E4M3"),
    "float8_e5m2": (1, "F8_E5M2"),
    "float8_e8m0fnu": (1, "U8"),
    "float8_e4m3fnuz": (1, "U8"),
    "float8_e5m2fnuz": (1, "U8"),
    "float16": (2, "F16"),
    "bfloat16": (2, "BF16"),
    "float32": (4, "F32"),
    "float64": (8, "F64"),
    "complex32": (4, "U8"),
    "complex64": (8, "C64"),
    "complex128": (16, "U8"),
}
ITEM_BYTES: Mapping[str, int] = {name: size for name, (size, _) in _DTYPES.items()}
SLAB_DTYPES: Mapping[str, str] = {name: code for name, (_, code) in _DTYPES.items()}
SLAB_ITEM_BYTES: Mapping[str, int] = {
    code: size for size, code in _DTYPES.values() if code != "U8"
} | {"U8": 1}


@dataclass(frozen=True, slots=True)
class Sealed:
    """A file by its sha256 (lower-case hex) and its size."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Storage:
    """One storage: an entry of the slab. `offset` counts from the slab's data, in bytes."""

    name: str
    offset: int
    size_bytes: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor as a view of a storage. `offset` and `stride` count elements of `dtype`."""

    storage: int
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    requires_grad: bool
    parameter: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a snapshot is. Its digest names the snapshot.

    `data_offset`: where the slab file's data begins, in bytes. `python` is
    "major.minor", `torch` torch's full version.
    """

    format_version: int
    device_class: str
    python: str
    torch: str
    slab: Sealed
    data_offset: int
    objects: Sealed
    storages: tuple[Storage, ...]
    tensors: tuple[TensorEntry, ...]

    def canonical(self) -> bytes:
        """The bytes that the digest is taken over."""
        document = asdict(self)
        return json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()

    @property
    def digest(self) -> str:
        """sha256 of the canonical bytes, as lower-case hex."""
        return sha256(self.canonical()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Size of slab and objects together."""
        return self.slab.size_bytes + self.objects.size_bytes


FRAME_HEAD, FRAME_MIDDLE, FRAME_TAIL = b'{"digest":"', b'","manifest":', b"}\n"
FRAME_BODY_AT = len(FRAME_HEAD) + 64 + len(FRAME_MIDDLE)


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`: the canonical manifest beside its own digest."""
    body = manifest.canonical()
    return b"".join((FRAME_HEAD, sha256(body).hexdigest().encode(), FRAME_MIDDLE, body, FRAME_TAIL))


def is_digest(text: str) -> bool:
    """Whether `text` is a sha256 in lower-case hex."""
    return len(text) == 64 and not text.strip("0123456789abcdef")


def corrupt(reason: str, digest: str = "") -> NoReturn:
    """Raises `CorruptSnapshot`."""
    raise CorruptSnapshot(f"The snapshot is damaged: {reason}.", digest=digest, reason=reason)
