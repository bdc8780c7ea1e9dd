"""Bytes by their own digest: what large inputs and results are kept in.

DIR/blobs/ab/ab34...         the bytes; their name is their SHA-256
DIR/blobs/ab/ab34....type    their content type
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from dsfn.functions.errors import DsfnError, InvalidInput, NotFound
from dsfn.runtime.disk import full_disk_errors

REF_PREFIX = "blob:sha256:"
DEFAULT_CONTENT_TYPE = "application/octet-stream"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    """The blobs of a node, below `root`. Safe to use from threads and processes at once."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, data: bytes, content_type: str = DEFAULT_CONTENT_TYPE) -> str:
        """Keeps `data` and gives its reference, "blob:sha256:<hex>".

        The same bytes again are one blob, with the content type given last. Raises
        `StorageFull`, and then nothing is kept.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        with full_disk_errors("a blob"):
            path.parent.mkdir(parents=True, exist_ok=True)
            # The type goes first: whoever sees the bytes finds their type.
            _write(_type_path(path), content_type.encode())
            _write(path, data)
        return REF_PREFIX + digest

    def get(self, digest: str) -> tuple[bytes, str]:
        """The bytes and content type of a blob by its digest in hex.

        Raises `NotFound`, and `DsfnError` when the bytes are not those that were put.
        """
        path = self._path(digest)
        try:
            data = path.read_bytes()
            content_type = _type_path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise _no_such_blob(digest) from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise DsfnError(f"Blob {digest} is damaged on the disk.", blob=digest)
        return data, content_type

    def describe(self, digest: str) -> tuple[int, str]:
        """The size in bytes and the content type of a blob. Raises `NotFound`."""
        path = self._path(digest)
        try:
            return path.stat().st_size, _type_path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise _no_such_blob(digest) from None

    def head(self, digest: str, size_bytes: int) -> bytes:
        """The first bytes of a blob, as they are on the disk. Raises `NotFound`."""
        try:
            with self._path(digest).open("rb") as file:
                return file.read(size_bytes)
        except FileNotFoundError:
            raise _no_such_blob(digest) from None

    def exists(self, digest: str) -> bool:
        """Whether there is a blob with this digest in hex."""
        return _DIGEST.fullmatch(digest) is not None and self._path(digest).is_file()

    def _path(self, digest: str) -> Path:
        if _DIGEST.fullmatch(digest) is None:
            raise NotFound(
                f"{digest!r} is not a SHA-256 in lower-case hex.", kind="blob", name=digest
            )
        return self._root / digest[:2] / digest


def digest_of(ref: str) -> str:
    """The digest in "blob:sha256:<hex>". Raises `InvalidInput`."""
    digest = ref.removeprefix(REF_PREFIX)
    if digest == ref or _DIGEST.fullmatch(digest) is None:
        raise InvalidInput(f"{ref!r} is not a reference like {REF_PREFIX}<hex>.", field="$ref")
    return digest


def _no_such_blob(digest: str) -> NotFound:
    return NotFound(f"There is no blob {digest}.", kind="blob", name=digest)


def _type_path(path: Path) -> Path:
    return path.with_name(path.name + ".type")


def _write(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".staging-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
