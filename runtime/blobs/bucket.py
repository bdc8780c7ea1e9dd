"""The blobs of a node in an S3 bucket, as `PREFIX/NODE/ab/ab34...`, beside it `ab34....type`, and
`ab34....links` of one that refers to others.

NODE is the node's own: what nothing in its database refers to it may delete, and nobody else's.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dsfn.functions.errors import CorruptSnapshot
from dsfn.runtime.blobs.files import LINKS_SUFFIX, TYPE_SUFFIX, Aged, corrupt, no_blob
from dsfn.runtime.blobs.references import DIGEST
from dsfn.snapshots.format import Sealed
from dsfn.snapshots.s3_bucket import Bucket, Missing, Object
from dsfn.snapshots.s3_transfer import Download, connections, retried, send
from dsfn.snapshots.transfer import Transfer

# An object that is younger than this counts as just written.
FRESH_S = 12 * 3600
QUESTION_TIMEOUT_S = 15.0
_MAX_TYPE_BYTES = 8192
# A blob of the largest size has no room for more references.
_MAX_LINKS_BYTES = 64 << 20


class BlobBucket:
    """A node's part of a bucket. Of calls for one digest the caller makes one at a time.

    Every method raises `StoreUnavailable` when the bucket cannot be reached or refuses.
    """

    def __init__(self, bucket: Bucket, timeout_s: float) -> None:
        """`timeout_s`: how long one blob may take."""
        self._bucket = bucket
        self._timeout_s = timeout_s

    def push(self, digest: str, path: Path) -> None:
        """Copies a blob's files here; bytes that are here already are not sent again, unless
        they are of an age at which they might soon be collected.

        Raises `CorruptBlob` when the file is damaged; then what is here stays.
        """
        bucket, key, transfer = self._bucket, _key(digest), self._transfer()
        for suffix in (TYPE_SUFFIX, LINKS_SUFFIX):
            beside = path.with_name(path.name + suffix)
            if beside.exists():
                put = partial(bucket.put, key + suffix, io.BytesIO(beside.read_bytes()))
                retried(bucket, transfer, put)
        sealed = Sealed(digest, path.stat().st_size)
        there = self._find(digest)
        if there is not None and there.size_bytes == sealed.size_bytes and _is_fresh(there):
            return
        try:
            with connections(transfer) as threads:
                send(bucket, key, path, sealed, threads, transfer)
        except CorruptSnapshot as error:
            raise corrupt(digest) from error

    def pull(self, digest: str, directory: Path) -> None:
        """Copies a blob's files into a directory. What differs is pulled a second time.

        Raises `NotFound`, `CorruptBlob` when it differs again, `StorageFull`.
        """
        there, transfer = self._find(digest), self._transfer()
        if there is None:
            raise no_blob(digest)
        sealed, path = Sealed(digest, there.size_bytes), directory / digest
        try:
            with connections(transfer) as threads:
                download = Download(self._bucket, there.key, path, sealed, threads, transfer)
                try:
                    if not download.finish():
                        download.again()
                        if not download.finish():
                            raise corrupt(digest)
                finally:
                    download.close()
        except CorruptSnapshot as error:
            raise corrupt(digest) from error
        path.with_name(path.name + TYPE_SUFFIX).write_bytes(
            self._beside(digest, TYPE_SUFFIX, _MAX_TYPE_BYTES)
        )

    def used_at_s(self, digest: str) -> float | None:
        """When a blob was last written, None when there is none."""
        there = self._find(digest)
        return None if there is None else _whole_seconds(there)

    def all(self) -> Iterator[Aged]:
        """Every blob; of those that begin with the same digit as many as a listing has."""
        for found in self._objects():
            digest = found.key.rpartition("/")[2]
            if DIGEST.fullmatch(digest):
                yield Aged(digest, _whole_seconds(found))

    def linking(self) -> Iterator[str]:
        """Every blob that refers to others."""
        for found in self._objects():
            if found.key.endswith(LINKS_SUFFIX):
                yield found.key.rpartition("/")[2].removesuffix(LINKS_SUFFIX)

    def links_of(self, digest: str) -> bytes:
        """The digests of the blobs that one refers to, a line each. Raises `NotFound`."""
        return self._beside(digest, LINKS_SUFFIX, _MAX_LINKS_BYTES)

    def remove(self, digest: str) -> None:
        """Removes a blob."""
        for suffix in ("", TYPE_SUFFIX, LINKS_SUFFIX):
            delete = partial(self._bucket.delete, _key(digest) + suffix)
            retried(self._bucket, _question(), delete)

    def close(self) -> None:
        """Closes every connection."""
        self._bucket.close()

    def _find(self, digest: str) -> Object | None:
        try:
            return retried(self._bucket, _question(), lambda: self._bucket.find(_key(digest)))
        except Missing:
            return None

    def _objects(self) -> Iterator[Object]:
        for digit in "0123456789abcdef":
            listing = partial(_listing, self._bucket, digit)
            yield from retried(self._bucket, self._transfer(), listing)

    def _beside(self, digest: str, suffix: str, limit_bytes: int) -> bytes:
        key, bucket = _key(digest) + suffix, self._bucket
        try:
            return retried(bucket, _question(), lambda: bucket.get_whole(key, limit_bytes))
        except Missing:
            raise no_blob(digest) from None

    def _transfer(self) -> Transfer:
        return Transfer(self._timeout_s, "the blob")


def _key(digest: str) -> str:
    return f"{digest[:2]}/{digest}"


def _listing(bucket: Bucket, under: str) -> list[Object]:
    return list(bucket.objects(under))


def _whole_seconds(found: Object) -> float:
    """When it was written: a listing knows it more exactly than a question for one object."""
    return float(int(found.written_at_s))


def _is_fresh(there: Object) -> bool:
    return time.time() - there.written_at_s < FRESH_S


def _question() -> Transfer:
    return Transfer(QUESTION_TIMEOUT_S, "the blob")
