"""The files of a snapshot against the digests in its manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from dsfn.functions.errors import CorruptSnapshot
from dsfn.functions.values import dataclass
from dsfn.snapshots.disk import create_file, storage_full
from dsfn.snapshots.format import Sealed, corrupt
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.regular import NotRegular, open_regular
from dsfn.snapshots.transfer import Transfer

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file that was read whole. `sound`: it has the bytes that its digest says."""

    name: str
    size_bytes: int
    sound: bool


def check_files(directory: Path, transfer: Transfer) -> tuple[CheckedFile, ...]:
    """Reads every file of a snapshot and compares its digest.

    Raises `CorruptSnapshot` when the manifest is damaged or a file's size is another,
    and what `transfer` was stopped with.
    """
    digest, manifest = read_manifest(directory)
    transfer.total_bytes = manifest.size_bytes
    return tuple(
        CheckedFile(
            name, sealed.size_bytes, _digest_of(directory / name, digest, transfer) == sealed.digest
        )
        for name, sealed in manifest.files().items()
    )


def is_sound(directory: Path, transfer: Transfer) -> bool:
    """Whether every byte of a snapshot is as it was captured."""
    try:
        return all(file.sound for file in check_files(directory, transfer))
    except CorruptSnapshot:
        return False


def copy_sealed(source: Path, target: Path, sealed: Sealed, transfer: Transfer) -> None:
    """Copies a file and compares what was read with its digest.

    Raises `CorruptSnapshot`, `StorageFull`, and what `transfer` was stopped with.
    """
    found, at = sha256(), 0
    try:
        with storage_full(), _created(target, sealed.size_bytes) as fd:
            for piece in _pieces(source, transfer):
                found.update(piece)
                at += write_at(fd, piece, at)
                transfer.advance(len(piece))
            os.fsync(fd)
    except NotRegular:
        corrupt(f"{source.name} is not a regular file", source.parent.name)
    if found.hexdigest() != sealed.digest:
        corrupt(f"the bytes of {source.name} differ from their digest", source.parent.name)


def write_at(fd: int, data: bytes, offset: int) -> int:
    """pwrite(2), all of it; how much that was."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
    return len(data)


def _digest_of(path: Path, digest: str, transfer: Transfer) -> str:
    found = sha256()
    try:
        for piece in _pieces(path, transfer):
            found.update(piece)
            transfer.advance(len(piece))
    except OSError as error:
        # A disk that cannot read its own sectors is damage like any other.
        corrupt(f"{path.name} cannot be read ({error.strerror})", digest)
    return found.hexdigest()


def _pieces(path: Path, transfer: Transfer) -> Iterator[bytes]:
    with open_regular(path) as file:
        while piece := file.read(PIECE_BYTES):
            transfer.check()
            yield piece


@contextmanager
def _created(path: Path, size_bytes: int) -> Iterator[int]:
    fd = create_file(path, size_bytes)
    try:
        yield fd
    finally:
        os.close(fd)
