"""The slab: every storage of a snapshot in one safetensors file, ready to be mapped.

Data begins at a page, storages at a multiple of 64 bytes, and entries named
`__pad.N` fill the gaps, since safetensors allows no holes.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from dsfn.functions.values import dataclass
from dsfn.snapshots.format import (
    ALIGNMENT_BYTES,
    PAGE_BYTES,
    Sealed,
    Storage,
    corrupt,
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything in a slab is: its header and its storages in order."""

    header: bytes
    storages: tuple[Storage, ...]

    def pad_bytes(self) -> Iterator[int]:
        """For each storage, how many zero bytes stand before it."""
        end = 0
        for storage in self.storages:
            yield storage.offset - end
            end = storage.offset + storage.size_bytes


def plan(storages: Sequence[Storage]) -> Layout:
    """Gives each storage its offset and writes the header that says so."""
    placed: list[Storage] = []
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = pads = 0
    for storage in storages:
        offset = end + -end % ALIGNMENT_BYTES
        if offset > end:
            entries[f"__pad.{pads}"] = _entry("U8", (offset - end,), end, offset)
            pads += 1
        end = offset + storage.size_bytes
        entries[storage.name] = _entry(storage.dtype, storage.shape, offset, end)
        placed.append(replace(storage, offset=offset))
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % PAGE_BYTES)
    return Layout(struct.pack("<Q", len(text)) + text, tuple(placed))


def write_slab(path: Path, layout: Layout, contents: Iterable[memoryview]) -> Sealed:
    """Writes a slab, the storages' bytes coming from `contents`, and syncs it to the disk."""
    digest, size = sha256(), 0
    with path.open("xb") as file:
        for piece in pieces(layout, contents):
            file.write(piece)
            digest.update(piece)
            size += len(piece)
        file.flush()
        os.fsync(file.fileno())
    return Sealed(digest.hexdigest(), size)


def pieces(layout: Layout, contents: Iterable[memoryview]) -> Iterator[bytes | memoryview]:
    """All bytes of a slab in order: header, then padding and storage in turn."""
    yield layout.header
    for pad_bytes, content in zip(layout.pad_bytes(), contents, strict=True):
        if pad_bytes:
            yield bytes(pad_bytes)
        yield content


def check_frame(path: Path, layout: Layout) -> None:
    """Checks what of the slab file is no storage: its header and the padding.

    Raises `CorruptSnapshot` unless the header says what the manifest says.
    """
    with path.open("rb") as file:
        if file.read(len(layout.header)) != layout.header:
            corrupt("the slab's header does not say what the manifest says")
        for storage, pad_bytes in zip(layout.storages, layout.pad_bytes(), strict=True):
            file.seek(len(layout.header) + storage.offset - pad_bytes)
            if any(file.read(pad_bytes)):
                corrupt(f"the slab's padding before {storage.name!r} is not zero")


def _entry(dtype: str, shape: tuple[int, ...], start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
