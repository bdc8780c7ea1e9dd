"""Unpacking a bundle on the node: nothing in it is trusted."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dsfn.functions.errors import BundleError
from dsfn.runtime.deploy.bundle import MAX_TAR_BYTES
from dsfn.runtime.deploy.sources import MAX_CONTENT_BYTES, MAX_FILES
from dsfn.runtime.disk import full_disk_errors

STAGING_PREFIX = ".staging-"
_COPY_BYTES = 1 << 20
_DAMAGED = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError)


def unpack(data: bytes, bundles: Path) -> str:
    """Unpacks a bundle into `bundles`/<digest> and gives the digest of its tar.

    The directory appears whole or not at all, and stays when it is there already.
    Raises `BundleError`, `StorageFull`.
    """
    with full_disk_errors("the bundle"):
        bundles.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=bundles, prefix=STAGING_PREFIX))
        try:
            digest = _extract(data, staging)
            target = bundles / digest
            if not target.exists():
                staging.rename(target)
            return digest
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _extract(data: bytes, staging: Path) -> str:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as compressed:
            stream = _HashedStream(compressed)
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for info in _limited(tar):
                    _extract_one(tar, info, staging)
            while stream.read(_COPY_BYTES):
                pass
    except _DAMAGED as error:
        raise BundleError(f"The bundle is not a whole tar.gz archive: {error}.") from error
    return stream.digest()


def _limited(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    total_bytes = 0
    for count, info in enumerate(tar, start=1):
        if count > 2 * MAX_FILES:
            raise BundleError(f"The bundle has more than {MAX_FILES} files.", limit=MAX_FILES)
        if info.size < 0:
            raise BundleError("The bundle is not a whole tar.gz archive: a size is negative.")
        total_bytes += info.size
        if total_bytes > MAX_CONTENT_BYTES:
            raise _too_large()
        yield info


def _extract_one(tar: tarfile.TarFile, info: tarfile.TarInfo, staging: Path) -> None:
    target = staging / _checked_name(info.name)
    try:
        if info.isdir():
            target.mkdir(parents=True, exist_ok=True)
            return
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.issparse():
            raise BundleError(
                f"The bundle holds {info.name!r}, which is neither a regular file nor a directory."
            )
        source = tar.extractfile(info)
        assert source is not None
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            shutil.copyfileobj(source, file, _COPY_BYTES)
        target.chmod(0o755 if info.mode & 0o100 else 0o644)
    except (FileExistsError, NotADirectoryError) as error:
        raise BundleError(f"The bundle holds {info.name!r} more than once.") from error


def _checked_name(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    too_long = len(os.fsencode(name)) > 1024 or any(len(os.fsencode(p)) > 255 for p in path.parts)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name or too_long:
        raise BundleError(f"The bundle holds {name[:200]!r}, which is not a path inside it.")
    return path


class _HashedStream(io.RawIOBase):
    """Reads through to `source`, hashing and counting. Raises `BundleError` over the limit."""

    def __init__(self, source: io.BufferedIOBase | gzip.GzipFile) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self._left_bytes = MAX_TAR_BYTES

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, which must be given."""
        data = self._source.read(size)
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise _too_large()
        self._hash.update(data)
        return data

    def digest(self) -> str:
        """The SHA-256 of all that was read, in hex."""
        return self._hash.hexdigest()


def _too_large() -> BundleError:
    return BundleError(
        f"The bundle unpacks to more than {MAX_CONTENT_BYTES >> 20} MiB.",
        limit_bytes=MAX_CONTENT_BYTES,
    )
