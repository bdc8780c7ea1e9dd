"""The blobs of a node: a folder that its workers read, and a bucket behind it if there is one."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from dsfn.functions.errors import CorruptBlob, NotFound
from dsfn.runtime.blobs.bucket import BlobBucket
from dsfn.runtime.blobs.files import Aged, BlobFiles, age_s, no_blob
from dsfn.runtime.blobs.references import DIGEST, REF_PREFIX
from dsfn.runtime.blobs.turns import Turns
from dsfn.runtime.disk import full_disk_errors

DEFAULT_CONTENT_TYPE = "application/octet-stream"
THREADS = 8

P = ParamSpec("P")
T = TypeVar("T")


class BlobStore:
    """The blobs below `root`, which belongs to one process; workers only read there.

    With a `bucket` what is put is in both when `put` returns, and the folder is a cache: what
    left it comes back when it is asked for. Safe to use from threads; `save`, `load` and
    `ensure` are for the event loop, which they do not hold up.
    """

    def __init__(self, root: Path, bucket: BlobBucket | None = None) -> None:
        self._files = BlobFiles(root)
        self._bucket = bucket
        self._turns = Turns()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="blob")

    def put(self, data: bytes, content_type: str = DEFAULT_CONTENT_TYPE) -> str:
        """Keeps `data` and gives its reference, "blob:sha256:<hex>".

        The same bytes again are one blob, as young as a new one, with the content type given
        last. Raises `StorageFull`, and then nothing is kept; `StoreUnavailable`.
        """
        digest = hashlib.sha256(data).hexdigest()
        with self._turns.of(digest):
            self._files.write(digest, data, content_type)
            if self._bucket is not None:
                self._bucket.push(digest, self._files.path(digest))
        return REF_PREFIX + digest

    def get(self, digest: str) -> tuple[bytes, str]:
        """The bytes and content type of a blob by its digest in hex.

        Raises `NotFound`, `CorruptBlob` when the bytes are not those that were put,
        `StorageFull`, `StoreUnavailable`.
        """
        self._pull(digest)
        try:
            return self._files.read(digest)
        except CorruptBlob:
            if self._bucket is None:
                raise
        self._discard(digest)
        self._pull(digest)
        return self._files.read(digest)

    def exists(self, digest: str) -> bool:
        """Whether there is a blob with this digest in hex. Raises `StoreUnavailable`."""
        if DIGEST.fullmatch(digest) is None:
            return False
        if self._files.has(digest):
            return True
        return self._bucket is not None and self._bucket.used_at_s(digest) is not None

    def keep(self, digest: str) -> None:
        """Makes a blob as young as one that was just put, before something new refers to it.

        Raises `NotFound`, `StorageFull`, `StoreUnavailable`.
        """
        with self._turns.of(digest):
            there = self._files.touch(digest)
            if self._bucket is None:
                if not there:
                    raise no_blob(digest)
                return
            if not there:
                self._fetch(digest)
            self._bucket.push(digest, self._files.path(digest))

    def describe(self, digest: str) -> tuple[int, str]:
        """The size in bytes and the content type of a blob, which is kept: who asks is about to
        refer to it. Raises as `keep`, and `CorruptBlob` when it had to come from the bucket."""
        self.keep(digest)
        return self._files.describe(digest)

    def head(self, digest: str, size_bytes: int) -> bytes:
        """The first bytes of a blob, as they are. Raises as `get` does."""
        self._pull(digest)
        return self._files.head(digest, size_bytes)

    async def save(self, data: bytes, content_type: str = DEFAULT_CONTENT_TYPE) -> str:
        """`put`, in a thread."""
        return await self._in_thread(self.put, data, content_type)

    async def load(self, digest: str) -> tuple[bytes, str]:
        """`get`, in a thread."""
        return await self._in_thread(self.get, digest)

    async def ensure(self, digests: Iterable[str]) -> None:
        """Has blobs in the folder, where a worker can read them, for a day at least.

        What is nowhere is left to whoever reads it. Raises `StorageFull`, `StoreUnavailable`.
        """
        missing = [digest for digest in digests if not self._files.touch(digest)]
        if self._bucket is not None and missing:
            await asyncio.gather(*(self._in_thread(self._bring, digest) for digest in missing))

    async def discard(self, digest: str) -> None:
        """Drops a damaged copy; without a bucket it stays, since there is no other."""
        if self._bucket is not None:
            await self._in_thread(self._discard, digest)

    def aged(self, keep_s: float) -> Iterator[Aged]:
        """Every blob that nobody has put or asked for within `keep_s`."""
        found: BlobFiles | BlobBucket = self._bucket or self._files
        for blob in found.all():
            # What a call asked for is young in the folder, however old in the bucket.
            here_s = self._files.used_at_s(blob.digest) or 0.0
            if age_s(max(here_s, blob.used_at_s)) > keep_s:
                yield Aged(blob.digest, max(here_s, blob.used_at_s))

    def links(self) -> Iterator[str]:
        """The digest of every blob that another one refers to, as the bucket knows where the
        folder does not. Raises `StorageFull`, `StoreUnavailable`."""
        if self._bucket is not None:
            for digest in self._bucket.linking():
                if not self._files.has_links(digest):
                    with suppress(NotFound):  # it was removed meanwhile
                        self._files.note_links(digest, self._bucket.links_of(digest))
        yield from self._files.links()

    def remove(self, blob: Aged) -> bool:
        """Removes a blob, unless somebody put or asked for it since; whether it did."""
        digest = blob.digest
        with self._turns.of(digest):
            here_s = self._files.used_at_s(digest) or 0.0
            there_s = self._bucket.used_at_s(digest) if self._bucket is not None else None
            if max(here_s, there_s or 0.0) != blob.used_at_s:
                return False
            if self._bucket is not None:
                self._bucket.remove(digest)
            self._files.remove(digest)
        return True

    def evict(self, keep_s: float) -> int:
        """Removes what nobody has asked for within `keep_s` from a folder that is a cache; gives
        the number of blobs."""
        if self._bucket is None:
            return 0
        old = (blob for blob in self._files.all() if age_s(blob.used_at_s) > keep_s)
        return sum(self._evict(blob) for blob in old)

    def clean(self) -> None:
        """Removes what a node that was killed had half written."""
        self._files.clean()

    def close(self) -> None:
        """Ends the threads, and closes every connection to the bucket."""
        self._threads.shutdown(cancel_futures=True)
        if self._bucket is not None:
            self._bucket.close()

    def _discard(self, digest: str) -> None:
        with self._turns.of(digest):
            self._files.remove(digest, links=False)

    def _evict(self, blob: Aged) -> bool:
        with self._turns.of(blob.digest):
            if self._files.used_at_s(blob.digest) != blob.used_at_s:
                return False
            self._files.remove(blob.digest, links=False)
        return True

    def _pull(self, digest: str) -> None:
        """Brings a blob from the bucket, unless it is in the folder. Raises `NotFound`."""
        if self._files.touch(digest):
            return
        if self._bucket is None:
            raise no_blob(digest)
        with self._turns.of(digest):
            if not self._files.touch(digest):
                self._fetch(digest)

    def _bring(self, digest: str) -> None:
        with suppress(NotFound):
            self._pull(digest)

    def _fetch(self, digest: str) -> None:
        assert self._bucket is not None
        with full_disk_errors("a blob"):
            staging = self._files.stage()
            try:
                self._bucket.pull(digest, staging)
                self._files.adopt(digest, staging)
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(work, *args, **kwargs))
