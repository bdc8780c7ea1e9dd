"""Published snapshots in a directory, each under its digest."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dsfn.functions.errors import NotFound, StorageFull
from dsfn.snapshots.format import MANIFEST_FILE, is_digest
from dsfn.snapshots.reading import read_manifest

_STAGING = ".staging-"
_TRASH = ".trash-"


@dataclass(frozen=True, slots=True)
class Published:
    """A published snapshot. `bytes` is the size of its files, but for the manifest."""

    digest: str
    bytes: int


class FileStore:
    """Snapshots as directories of `root`. One node owns it; a rename publishes or deletes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        with _storage_full():
            root.mkdir(parents=True, exist_ok=True)

    def stage(self) -> Path:
        """A fresh empty directory to capture into. Raises `StorageFull`."""
        with _storage_full():
            return Path(tempfile.mkdtemp(prefix=_STAGING, dir=self._root))

    def publish(self, staging: Path) -> Published:
        """Makes a captured (and verified) snapshot available under its digest.

        A digest that is there already stays as it is. `staging` is gone afterwards.
        Raises `CorruptSnapshot`, `StorageFull`.
        """
        digest, manifest = read_manifest(staging)
        with _storage_full():
            for name in (*manifest.files(), MANIFEST_FILE):
                (staging / name).chmod(0o444)
            _sync(staging)
            try:
                staging.rename(self._root / digest)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                shutil.rmtree(staging)
            _sync(self._root)
        return Published(digest, manifest.size_bytes)

    def path(self, digest: str) -> Path:
        """The directory of a published snapshot. Raises `NotFound`."""
        path = self._root / digest
        if not is_digest(digest) or not path.is_dir():
            raise NotFound(f"There is no snapshot {digest!r}.", kind="snapshot", name=digest)
        return path

    def delete(self, digest: str) -> None:
        """Deletes a snapshot. Replicas that have it mapped keep it. Raises `NotFound`."""
        path = self.path(digest)
        trash = Path(tempfile.mkdtemp(prefix=_TRASH, dir=self._root))
        path.rename(trash)  # so that no reader ever finds half a snapshot
        shutil.rmtree(trash)

    def digests(self) -> tuple[str, ...]:
        """The digests of all published snapshots, sorted."""
        return tuple(sorted(path.name for path in self._root.iterdir() if is_digest(path.name)))

    def clean(self) -> None:
        """Drops what an earlier node left staged or half deleted. Call before any `stage`."""
        for path in self._root.iterdir():
            if path.name.startswith((_STAGING, _TRASH)):
                shutil.rmtree(path)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _storage_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The disk has no room for the snapshot.") from error
        raise
