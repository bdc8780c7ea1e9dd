"""The folder that a node keeps its blobs in, from which workers read them.

ROOT/ab/ab34...          the bytes; their name is their SHA-256
ROOT/ab/ab34....type     their content type
ROOT/ab/ab34....links    the digests of the blobs that they refer to, if they refer to any
ROOT/.staging/           what is being written

How long ago a blob was last put or asked for is the age of the first file.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dsfn.billing.durable import write_whole
from dsfn.functions.errors import CorruptBlob, NotFound
from dsfn.functions.values import dataclass
from dsfn.runtime.blobs.references import DIGEST, references_in
from dsfn.runtime.disk import full_disk_errors

TYPE_SUFFIX = ".type"
LINKS_SUFFIX = ".links"
_COMPARED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Aged:
    """A blob and when it was last put or asked for, in seconds since the epoch."""

    digest: str
    used_at_s: float


class BlobFiles:
    """The files. Of calls for one digest the caller makes one at a time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._staging = root / ".staging"

    def write(self, digest: str, data: bytes, content_type: str) -> None:
        """Keeps a blob whole or not at all; the same bytes are not written again.

        Raises `StorageFull`.
        """
        path = self.path(digest)
        links = references_in(content_type, data)
        with full_disk_errors("a blob"):
            path.parent.mkdir(parents=True, exist_ok=True)
            # What is said of the bytes goes first: whoever sees them finds it.
            self._write(_beside(path, TYPE_SUFFIX), content_type.encode())
            if links:
                self._write(_beside(path, LINKS_SUFFIX), "\n".join(sorted(links)).encode())
            if _has(path, data):
                os.utime(path)
            else:
                self._write(path, data)

    def adopt(self, digest: str, directory: Path) -> None:
        """Takes over a blob's files, which have their final names, from a staging directory."""
        path = self.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        for name in (path.name + TYPE_SUFFIX, path.name + LINKS_SUFFIX, path.name):
            with suppress(FileNotFoundError):
                (directory / name).replace(path.with_name(name))

    def read(self, digest: str) -> tuple[bytes, str]:
        """The bytes and their content type. Raises `NotFound`, `CorruptBlob`."""
        path = self.path(digest)
        try:
            data = path.read_bytes()
            content_type = _beside(path, TYPE_SUFFIX).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise no_blob(digest) from None
        check(digest, data)
        return data, content_type

    def describe(self, digest: str) -> tuple[int, str]:
        """The size in bytes and the content type. Raises `NotFound`."""
        path = self.path(digest)
        try:
            content_type = _beside(path, TYPE_SUFFIX).read_text(encoding="utf-8")
            return path.stat().st_size, content_type
        except FileNotFoundError:
            raise no_blob(digest) from None

    def head(self, digest: str, size_bytes: int) -> bytes:
        """The first bytes, as they are on the disk. Raises `NotFound`."""
        try:
            with self.path(digest).open("rb") as file:
                return file.read(size_bytes)
        except FileNotFoundError:
            raise no_blob(digest) from None

    def has(self, digest: str) -> bool:
        """Whether there is a blob with this digest. Raises `NotFound` for what is no digest."""
        return self.path(digest).is_file()

    def touch(self, digest: str) -> bool:
        """Makes a blob as young as one that was just put; False when there is none."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def used_at_s(self, digest: str) -> float | None:
        """When a blob was last put or asked for, None when there is none."""
        try:
            return self.path(digest).stat().st_mtime
        except FileNotFoundError:
            return None

    def all(self) -> Iterator[Aged]:
        """Every blob."""
        for entry in self._entries():
            if DIGEST.fullmatch(entry.name):
                with suppress(FileNotFoundError):
                    yield Aged(entry.name, entry.stat().st_mtime)

    def links(self) -> Iterator[str]:
        """The digest of every blob that another one refers to."""
        for entry in self._entries():
            if entry.name.endswith(LINKS_SUFFIX):
                with suppress(FileNotFoundError):
                    yield from Path(entry.path).read_text(encoding="utf-8").split()

    def has_links(self, digest: str) -> bool:
        """Whether it is known here what a blob refers to."""
        return _beside(self.path(digest), LINKS_SUFFIX).exists()

    def note_links(self, digest: str, links: bytes) -> None:
        """Remembers what a blob refers to that is not here itself. Raises `StorageFull`."""
        path = _beside(self.path(digest), LINKS_SUFFIX)
        with full_disk_errors("a blob"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(path, links)

    def remove(self, digest: str, links: bool = True) -> None:
        """Removes a blob; with `links` False, what it refers to stays known."""
        path = self.path(digest)
        path.unlink(missing_ok=True)
        _beside(path, TYPE_SUFFIX).unlink(missing_ok=True)
        if links:
            _beside(path, LINKS_SUFFIX).unlink(missing_ok=True)

    def stage(self) -> Path:
        """A new directory on the same disk for what is on its way here."""
        self._staging.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self._staging))

    def clean(self) -> None:
        """Removes what a process that was killed had half written."""
        shutil.rmtree(self._staging, ignore_errors=True)

    def path(self, digest: str) -> Path:
        """Where the bytes of a blob are. Raises `NotFound` for what is no digest."""
        if DIGEST.fullmatch(digest) is None:
            raise NotFound(
                f"{digest!r} is not a SHA-256 in lower-case hex.", kind="blob", name=digest
            )
        return self._root / digest[:2] / digest

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        for first in range(256):
            with suppress(FileNotFoundError), os.scandir(self._root / f"{first:02x}") as entries:
                yield from entries

    def _write(self, path: Path, data: bytes) -> None:
        self._staging.mkdir(parents=True, exist_ok=True)
        by_way_of = self._staging / f"{path.name}.{secrets.token_hex(4)}"
        write_whole(path, data, by_way_of=by_way_of)


def check(digest: str, data: bytes) -> None:
    """Raises `CorruptBlob` unless the bytes are those of the digest."""
    if hashlib.sha256(data).hexdigest() != digest:
        raise corrupt(digest)


def corrupt(digest: str) -> CorruptBlob:
    """The error for bytes that are not those of their digest."""
    return CorruptBlob(f"Blob {digest} is damaged: its bytes are not those put.", blob=digest)


def no_blob(digest: str) -> NotFound:
    """The error for a blob that is not there."""
    return NotFound(f"There is no blob {digest}.", kind="blob", name=digest)


def age_s(used_at_s: float) -> float:
    """How long ago that is."""
    return time.time() - used_at_s


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _has(path: Path, data: bytes) -> bool:
    """Whether a file has these bytes: reading is cheaper than writing, and a damaged file is
    not taken for whole."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != len(data):
                return False
            for at in range(0, len(data), _COMPARED_BYTES):
                if file.read(_COMPARED_BYTES) != data[at : at + _COMPARED_BYTES]:
                    return False
    except FileNotFoundError:
        return False
    return True
