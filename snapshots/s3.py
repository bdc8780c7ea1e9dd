"""Snapshots in an S3 bucket, as `PREFIX/DIGEST/FILE`.

A snapshot's manifest is written last and deleted first: without one there is no snapshot,
whatever else is there. What is pulled is checked against the digests before anybody sees it,
and so is what is pushed.
"""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

from dsfn.functions.errors import NotFound
from dsfn.snapshots.disk import storage_full
from dsfn.snapshots.format import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    Manifest,
    corrupt,
    encode_manifest,
    is_digest,
)
from dsfn.snapshots.reading import decode_manifest, read_manifest
from dsfn.snapshots.s3_bucket import Bucket, Missing
from dsfn.snapshots.s3_transfer import Download, connections, put, retried, upload
from dsfn.snapshots.store import Published
from dsfn.snapshots.transfer import Transfer

# How long anything may take that copies no weights.
QUESTION_TIMEOUT_S = 15.0


class S3SnapshotStore:
    """A `SnapshotStore` in a bucket, or in a part of one, that the server's prefix names."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def has(self, digest: str) -> bool:
        """See `SnapshotStore`."""
        if not is_digest(digest):
            return False
        key = f"{digest}/{MANIFEST_FILE}"
        try:
            retried(self._bucket, _question(), lambda: self._bucket.find(key))
        except Missing:
            return False
        return True

    def listing(self) -> tuple[Published, ...]:
        """See `SnapshotStore`."""
        objects = retried(self._bucket, _question(), lambda: list(self._bucket.objects()))
        sizes: Counter[str] = Counter()
        whole = set()
        for found in objects:
            digest, _, name = found.key.partition("/")
            if name == MANIFEST_FILE and is_digest(digest):
                whole.add(digest)
            else:
                sizes[digest] += found.size_bytes
        return tuple(Published(digest, sizes[digest]) for digest in sorted(whole))

    def manifest(self, digest: str) -> Manifest:
        """See `SnapshotStore`."""
        return self._manifest(digest, _question())[0]

    def push(self, directory: Path, transfer: Transfer) -> Published:
        """See `SnapshotStore`."""
        digest, manifest = read_manifest(directory)
        transfer.total_bytes = manifest.size_bytes
        with connections(transfer) as threads:
            for name, sealed in manifest.files().items():
                key = f"{digest}/{name}"
                upload(self._bucket, key, directory / name, sealed, threads, transfer)
        data = encode_manifest(manifest)
        put(self._bucket, f"{digest}/{MANIFEST_FILE}", io.BytesIO(data), len(data), transfer)
        return Published(digest, manifest.size_bytes)

    def pull(self, digest: str, staging: Path, transfer: Transfer) -> None:
        """See `SnapshotStore`. A file whose bytes differ is pulled a second time."""
        manifest, data = self._manifest(digest, transfer)
        transfer.total_bytes = manifest.size_bytes
        downloads: list[tuple[str, Download]] = []
        try:
            with connections(transfer) as threads:
                for name, sealed in manifest.files().items():
                    key, path = f"{digest}/{name}", staging / name
                    download = Download(self._bucket, key, path, sealed, threads, transfer)
                    downloads.append((name, download))
                for name, download in downloads:
                    if not download.finish():
                        download.again()
                        if not download.finish():
                            corrupt(f"the store's bytes of {name} differ from their digest", digest)
        finally:
            for _, download in downloads:
                download.close()
        with storage_full():
            (staging / MANIFEST_FILE).write_bytes(data)

    def delete(self, digest: str) -> None:
        """See `SnapshotStore`."""
        if not is_digest(digest):
            raise _no_snapshot(digest)
        objects = self._bucket.objects
        keys = [
            o.key for o in retried(self._bucket, _question(), lambda: list(objects(f"{digest}/")))
        ]
        if not keys:
            raise _no_snapshot(digest)
        for key in sorted(keys, key=lambda key: key != f"{digest}/{MANIFEST_FILE}"):
            self._delete(key)

    def close(self) -> None:
        """See `SnapshotStore`."""
        self._bucket.close()

    def _delete(self, key: str) -> None:
        retried(self._bucket, _question(), lambda: self._bucket.delete(key))

    def _manifest(self, digest: str, transfer: Transfer) -> tuple[Manifest, bytes]:
        """The manifest, and the bytes that it came as."""
        if not is_digest(digest):
            raise _no_snapshot(digest)
        bucket, key = self._bucket, f"{digest}/{MANIFEST_FILE}"
        try:
            data = retried(bucket, transfer, lambda: bucket.get_whole(key, MAX_MANIFEST_BYTES))
        except Missing:
            raise _no_snapshot(digest) from None
        if len(data) > MAX_MANIFEST_BYTES:
            corrupt(f"{MANIFEST_FILE} is over the limit of {MAX_MANIFEST_BYTES} bytes", digest)
        found, manifest = decode_manifest(data)
        if found != digest:
            corrupt("the store has another snapshot's manifest in its place", digest)
        return manifest, data


def _question() -> Transfer:
    return Transfer(QUESTION_TIMEOUT_S)


def _no_snapshot(digest: str) -> NotFound:
    return NotFound(f"The store has no snapshot {digest!r}.", kind="snapshot", name=digest)
