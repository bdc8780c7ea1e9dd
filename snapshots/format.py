"""The manifest of a snapshot: what its slabs and its objects are, byte for byte.

`docs/snapshot-format.md` specifies the format. Everything here is checked before
anything is used, and nothing here needs torch: the node reads manifests too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, field
from hashlib import sha256
from typing import NoReturn

from dsfn.functions.errors import CorruptSnapshot
from dsfn.functions.values import dataclass

FORMAT_VERSION = 2
MAX_GPUS = 16
CPU = "cpu"
# What a slab can be for, in the order that slabs have: "gpu:N" is the function's N-th GPU.
DEVICES: tuple[str, ...] = (CPU, *(f"gpu:{number}" for number in range(MAX_GPUS)))
OBJECTS_FILE = "objects.pkl"
GOLDEN_FILE = "golden.bin"
MANIFEST_FILE = "manifest.json"
PAGE_BYTES = 4096
ALIGNMENT_BYTES = 64
MAX_MANIFEST_BYTES = 256 << 20
MAX_DIMENSIONS = 64
MAX_LIBRARIES = 1000

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
class SlabEntry:
    """The slab of one device, one of `DEVICES`. `data_offset`: where the file's data begins.

    `first_use`: how many of its storages, from the first on, are in the order in which the
    function's sample first used them.
    """

    device: str
    file: str
    digest: str
    size_bytes: int
    data_offset: int
    first_use: int

    @property
    def data_bytes(self) -> int:
        """What of the file is brought onto the device."""
        return self.size_bytes - self.data_offset


@dataclass(frozen=True, slots=True)
class GoldenEntry:
    """The file of the golden output, and the content type that it has as an answer."""

    content_type: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Origin:
    """What a state was made from, beside its weights.

    `code`: sha256 of the source bundle; `options`: sha256 of the function's options
    ("" for a state that is no function's). `libraries`: the versions of the installed
    distributions that were in use, by normalised name.
    """

    code: str = ""
    options: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Storage:
    """One storage: an entry of the slab number `slab`. `offset` counts bytes from its data."""

    slab: int
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

    `python` is "major.minor", `torch` torch's full version; `code`, `options` and
    `libraries` are as in `Origin`. Storages are in the order of the slabs.
    """

    format_version: int
    device_class: str
    python: str
    torch: str
    code: str
    options: str
    libraries: Mapping[str, str]
    slabs: tuple[SlabEntry, ...]
    objects: Sealed
    golden: GoldenEntry | None
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

    def files(self) -> dict[str, Sealed]:
        """Every file of the snapshot by name, but for the manifest itself."""
        return dict(self._files())

    @property
    def slab_bytes(self) -> int:
        """Size of all slabs together."""
        return sum(slab.size_bytes for slab in self.slabs)

    @property
    def size_bytes(self) -> int:
        """Size of all files together, but for the manifest itself."""
        return sum(sealed.size_bytes for sealed in self.files().values())

    def _files(self) -> Iterator[tuple[str, Sealed]]:
        for slab in self.slabs:
            yield slab.file, Sealed(slab.digest, slab.size_bytes)
        yield OBJECTS_FILE, self.objects
        if self.golden is not None:
            yield GOLDEN_FILE, Sealed(self.golden.digest, self.golden.size_bytes)


FRAME_HEAD, FRAME_MIDDLE, FRAME_TAIL = b'{"digest":"', b'","manifest":', b"}\n"
FRAME_BODY_AT = len(FRAME_HEAD) + 64 + len(FRAME_MIDDLE)


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`: the canonical manifest beside its own digest."""
    body = manifest.canonical()
    return b"".join((FRAME_HEAD, sha256(body).hexdigest().encode(), FRAME_MIDDLE, body, FRAME_TAIL))


def slab_file(device: str) -> str:
    """The name of the file that holds the slab of `device`, one of `DEVICES`."""
    return f"slab-{device.replace(':', '')}.safetensors"


def is_digest(text: str) -> bool:
    """Whether `text` is a sha256 in lower-case hex."""
    return len(text) == 64 and not text.strip("0123456789abcdef")


def corrupt(reason: str, digest: str = "") -> NoReturn:
    """Raises `CorruptSnapshot`."""
    raise CorruptSnapshot(f"The snapshot is damaged: {reason}.", digest=digest, reason=reason)
