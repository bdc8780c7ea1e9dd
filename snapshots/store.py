"""Where published snapshots are kept, each under its digest: the seam, and a directory of them."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Protocol

from dsfn.functions.errors import NotFound
from dsfn.functions.values import dataclass
from dsfn.snapshots.disk import storage_full, sync_directory
from dsfn.snapshots.format import MANIFEST_FILE, Manifest, is_digest
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.regular import open_regular
from dsfn.snapshots.transfer import Transfer

_STAGING = ".staging-"
_TRASH = ".trash-"


@dataclass(frozen=True, slots=True)
class Published:
    """A published snapshot. `bytes` is the size of its files, but for the manifest."""

    digest: str
    bytes: int


class SnapshotStore(Protocol):
    """A store that several nodes share. Calls block, for as long as their transfer may take.

    Every method raises `StoreUnavailable` when the store cannot be reached or refuses.
    """

    def has(self, digest: str) -> bool:
        """Whether this snapshot is there, whole as far as names tell."""

    def listing(self) -> tuple[Published, ...]:
        """Every snapshot that is there, by digest."""

    def manifest(self, digest: str) -> Manifest:
        """What a snapshot is. Raises `NotFound`, `CorruptSnapshot`."""

    def push(self, directory: Path, transfer: Transfer) -> Published:
        """Copies a published snapshot here; what is here already is not sent again.

        Raises `CorruptSnapshot` when its bytes are not those of its digests.
        """

    def pull(self, digest: str, staging: Path, transfer: Transfer) -> None:
        """Copies a snapshot into the empty directory `staging`, every digest checked.

        Raises `NotFound`, `CorruptSnapshot`, `StorageFull`.
        """

    def delete(self, digest: str) -> None:
        """Deletes a snapshot, or what there is of it. Raises `NotFound`."""

    def close(self) -> None:
        """Gives connections back; nothing may be asked afterwards."""


class FileStore:
    """Snapshots as directories of `root`. One node owns it; a rename publishes or deletes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        with storage_full():
            root.mkdir(parents=True, exist_ok=True)

    def stage(self) -> Path:
        """A fresh empty directory to capture into. Raises `StorageFull`."""
        with storage_full():
            return Path(tempfile.mkdtemp(prefix=_STAGING, dir=self._root))

    def publish(self, staging: Path) -> Published:
        """Makes a captured (and verified) snapshot available under its digest.

        A digest that is there already stays as it is. `staging` is gone afterwards.
        Raises `CorruptSnapshot`, `StorageFull`.
        """
        digest, manifest = read_manifest(staging)
        with storage_full():
            for name in (*manifest.files(), MANIFEST_FILE):
                with open_regular(staging / name) as file:
                    os.fchmod(file.fileno(), 0o444)
            sync_directory(staging)
            try:
                staging.rename(self._root / digest)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                shutil.rmtree(staging)
            sync_directory(self._root)
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

    def size_bytes(self, digest: str) -> int:
        """The size of a snapshot's files, but for the manifest. Raises `NotFound`."""
        files = (file for file in self.path(digest).iterdir() if file.name != MANIFEST_FILE)
        return sum(file.stat().st_size for file in files)

    def has(self, digest: str) -> bool:
        """Whether this snapshot is there."""
        return is_digest(digest) and (self._root / digest).is_dir()

    def clean(self) -> None:
        """Drops what an earlier node left staged or half deleted. Call before any `stage`."""
        for path in self._root.iterdir():
            if path.name.startswith((_STAGING, _TRASH)):
                shutil.rmtree(path)
