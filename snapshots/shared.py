"""A directory as the store that several nodes share: on a network file system, say."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsfn.functions.errors import StoreUnavailable
from dsfn.snapshots.disk import storage_full
from dsfn.snapshots.format import MANIFEST_FILE, Manifest
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.regular import open_regular
from dsfn.snapshots.sealed import copy_sealed
from dsfn.snapshots.store import FileStore, Published
from dsfn.snapshots.transfer import Transfer


class SharedDirectory:
    """A `SnapshotStore` over a directory that must be there: a disk that is not mounted must not
    be taken for an empty store."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, digest: str) -> bool:
        """See `SnapshotStore`."""
        with self._files() as files:
            return files.has(digest)

    def listing(self) -> tuple[Published, ...]:
        """See `SnapshotStore`."""
        with self._files() as files:
            return tuple(Published(d, files.size_bytes(d)) for d in files.digests())

    def manifest(self, digest: str) -> Manifest:
        """See `SnapshotStore`."""
        with self._files() as files:
            return read_manifest(files.path(digest))[1]

    def push(self, directory: Path, transfer: Transfer) -> Published:
        """See `SnapshotStore`. Raises `StorageFull`, too."""
        digest, manifest = read_manifest(directory)
        with self._files() as files:
            if files.has(digest):
                return Published(digest, manifest.size_bytes)
            staging = files.stage()
            try:
                _copy(directory, manifest, staging, transfer)
                return files.publish(staging)
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    def pull(self, digest: str, staging: Path, transfer: Transfer) -> None:
        """See `SnapshotStore`."""
        with self._files() as files:
            directory = files.path(digest)
            _copy(directory, read_manifest(directory)[1], staging, transfer)

    def delete(self, digest: str) -> None:
        """See `SnapshotStore`."""
        with self._files() as files:
            files.delete(digest)

    def close(self) -> None:
        """See `SnapshotStore`: a directory holds nothing open."""

    @contextmanager
    def _files(self) -> Iterator[FileStore]:
        try:
            if not self._root.is_dir():
                raise FileNotFoundError(2, "No such directory")
            yield FileStore(self._root)
        except OSError as error:
            raise StoreUnavailable(
                f"The store {self._root} cannot be used: {error.strerror}.",
                reason=str(error.strerror),
                retry_after_s=10,
            ) from error


def _copy(directory: Path, manifest: Manifest, staging: Path, transfer: Transfer) -> None:
    """Copies every file of a snapshot, the manifest last, and checks their digests."""
    transfer.total_bytes = manifest.size_bytes
    for name, sealed in manifest.files().items():
        copy_sealed(directory / name, staging / name, sealed, transfer)
    with storage_full():
        with open_regular(directory / MANIFEST_FILE) as manifest_file:
            (staging / MANIFEST_FILE).write_bytes(manifest_file.read())
