"""The store that deployments publish to and pods start from: a bucket, or a directory.

revisions/<digest>.json   a revision's document, by the SHA-256 of its bytes
bundles/<digest>.tar.gz   its source, by the SHA-256 of the tar
<digest>/...              snapshots, as every store of snapshots has them
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Protocol

from dsfn.billing.durable import write_whole
from dsfn.functions.errors import NotFound, StoreUnavailable, UsageError
from dsfn.functions.values import dataclass
from dsfn.knative.pod.signed import Signer, signer
from dsfn.runtime.config import SnapshotSettings
from dsfn.runtime.tiers.opening import open_bucket, open_store
from dsfn.snapshots.addresses import read_store
from dsfn.snapshots.s3_bucket import Bucket, Missing
from dsfn.snapshots.s3_transfer import retried
from dsfn.snapshots.store import SnapshotStore
from dsfn.snapshots.transfer import Transfer

# A revision's document and source are small; who waits for them is a caller's first call.
OBJECT_TIMEOUT_S = 30.0


class Objects(Protocol):
    """Small things by name. All calls block; `get` and `put` raise `StoreUnavailable`."""

    def get(self, name: str, limit_bytes: int) -> bytes:
        """What is there, at most `limit_bytes` and one more. Raises `NotFound`."""

    def put(self, name: str, data: bytes) -> None:
        """Writes it, whole or not at all."""


@dataclass(frozen=True, slots=True)
class Store:
    """A store's two halves."""

    objects: Objects
    snapshots: SnapshotStore


def open_published(settings: SnapshotSettings) -> Store:
    """The store that settings name; it is not asked anything yet. Raises `UsageError`."""
    snapshots = open_store(settings)
    if snapshots is None:
        raise UsageError("No store is named.")
    address = read_store(settings.store)
    if isinstance(address, Path):
        return Store(DirectoryObjects(address), snapshots)
    bucket = open_bucket(settings)
    return Store(BucketObjects(bucket, signer(bucket.endpoint_url, os.environ)), snapshots)


@dataclass(frozen=True, slots=True)
class BucketObjects:
    """Objects of an S3 bucket. `signer`: asks first; what it does not get, boto3 is asked for."""

    bucket: Bucket
    signer: Signer | None = None

    def get(self, name: str, limit_bytes: int) -> bytes:
        """See `Objects`."""
        bucket = self.bucket
        if self.signer is not None:
            found = self.signer.get(bucket.name, bucket.prefix + name, limit_bytes)
            if found is not None:
                return found
        try:
            return retried(
                self.bucket, _transfer(name), lambda: self.bucket.get_whole(name, limit_bytes)
            )
        except Missing:
            raise _missing(name) from None

    def put(self, name: str, data: bytes) -> None:
        """See `Objects`."""
        retried(self.bucket, _transfer(name), lambda: self.bucket.put(name, io.BytesIO(data)))


@dataclass(frozen=True, slots=True)
class DirectoryObjects:
    """Files below a directory, which must be there."""

    root: Path

    def get(self, name: str, limit_bytes: int) -> bytes:
        """See `Objects`."""
        try:
            with (self.root / name).open("rb") as file:
                return file.read(limit_bytes + 1)
        except FileNotFoundError as error:
            if self.root.is_dir():
                raise _missing(name) from None
            raise self._unavailable(error) from error
        except OSError as error:
            raise self._unavailable(error) from error

    def put(self, name: str, data: bytes) -> None:
        """See `Objects`."""
        path = self.root / name
        # Others publish there, too, and pods of any user read it.
        by_way_of = path.with_name(f".staging-{os.getpid()}-{path.name}")
        try:
            path.parent.mkdir(exist_ok=True)
            write_whole(path, data, mode=0o666, by_way_of=by_way_of)
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        reason = error.strerror or str(error)
        return StoreUnavailable(
            f"The store {self.root} cannot be used: {reason}.", reason=reason, retry_after_s=10
        )


def _transfer(name: str) -> Transfer:
    return Transfer(OBJECT_TIMEOUT_S, name)


def _missing(name: str) -> NotFound:
    return NotFound(f"The store has no {name}.", kind="object", name=name)
