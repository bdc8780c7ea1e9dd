"""Files to and from a bucket, in parts that travel side by side and are tried again alone.

A part that fails goes on from its last byte. What is tried again and how often is the same
for every request: `ATTEMPTS` times in a row without a byte of progress, waiting twice as
long each time (less a random share, so that nodes do not come back together).
"""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dsfn.functions.errors import DsfnError, StoreUnavailable
from dsfn.snapshots.disk import create_file, storage_full
from dsfn.snapshots.format import Sealed, corrupt
from dsfn.snapshots.regular import open_regular
from dsfn.snapshots.s3_bucket import Bucket, Fault, Missing, OutOfRange
from dsfn.snapshots.sealed import PIECE_BYTES, write_at
from dsfn.snapshots.transfer import Transfer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

CONNECTIONS = 16
PART_BYTES = 8 << 20
MAX_PARTS = 10_000
ATTEMPTS = 6
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0
_MIB = 1 << 20

T = TypeVar("T")


def retried(bucket: Bucket, transfer: Transfer, request: Callable[[], T]) -> T:
    """Makes a request until it works. Raises `StoreUnavailable`, and as `request` does but for
    `Fault`."""
    for attempt in count(1):
        transfer.check()
        try:
            return request()
        except Fault as fault:
            _pause(bucket, transfer, attempt, fault)
    raise AssertionError


@contextmanager
def connections(transfer: Transfer) -> Iterator[ThreadPoolExecutor]:
    """The threads of one transfer; when the block fails they are stopped before it is left."""
    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="snapshot") as threads:
        try:
            yield threads
        except BaseException as error:
            _stop(transfer, error)
            threads.shutdown(wait=False, cancel_futures=True)
            raise


class Download:
    """One file on its way out of the bucket, into room that is taken for it beforehand."""

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        path: Path,
        sealed: Sealed,
        threads: ThreadPoolExecutor,
        transfer: Transfer,
    ) -> None:
        """Begins. Raises `StorageFull`."""
        self._bucket = bucket
        self._key = key
        self._sealed = sealed
        self._threads = threads
        self._transfer = transfer
        self._fd = create_file(path, sealed.size_bytes)
        self._parts = self._begin()

    def finish(self) -> bool:
        """Waits for all of the file; whether its bytes are those of its digest.

        Raises `CorruptSnapshot` when there is less in the store, `StorageFull`,
        `StoreUnavailable`, and what the transfer was stopped with.
        """
        found = sha256()
        for start, end, part in self._parts:
            part.result()
            for at in range(start, end, PIECE_BYTES):
                found.update(os.pread(self._fd, min(PIECE_BYTES, end - at), at))
        with storage_full():
            os.fsync(self._fd)
        return found.hexdigest() == self._sealed.digest

    def again(self) -> None:
        """Begins anew, over what came."""
        self._transfer.advance(-self._sealed.size_bytes)
        self._parts = self._begin()

    def close(self) -> None:
        """Closes the file; no part may be on its way any more."""
        os.close(self._fd)

    def _begin(self) -> list[tuple[int, int, Future[None]]]:
        size = self._sealed.size_bytes
        ends = [(start, min(start + PART_BYTES, size)) for start in range(0, size, PART_BYTES)]
        return [(a, b, _submit(self._threads, self._transfer, self._fetch, a, b)) for a, b in ends]

    def _fetch(self, start: int, end: int) -> None:
        """One part, from where it stopped each time that it does."""
        attempt = 0
        while start < end:
            self._transfer.check()
            try:
                for chunk in self._bucket.get(self._key, start, end):
                    with storage_full():
                        start += write_at(self._fd, chunk, start)
                    self._transfer.advance(len(chunk))
                    self._transfer.check()
                    attempt = 0
            except (Missing, OutOfRange):
                digest, _, name = self._key.partition("/")
                corrupt(f"the store has less than all of {name}", digest)
            except Fault as fault:
                attempt += 1
                _pause(self._bucket, self._transfer, attempt, fault)


def upload(
    bucket: Bucket,
    key: str,
    path: Path,
    sealed: Sealed,
    threads: ThreadPoolExecutor,
    transfer: Transfer,
) -> None:
    """Uploads a file, unless an object of its size is there already. Raises as `send`."""
    if _is_there(bucket, key, sealed.size_bytes, transfer):
        transfer.advance(sealed.size_bytes)
        return
    send(bucket, key, path, sealed, threads, transfer)


def send(
    bucket: Bucket,
    key: str,
    path: Path,
    sealed: Sealed,
    threads: ThreadPoolExecutor,
    transfer: Transfer,
) -> None:
    """Uploads a file, whatever is there.

    Raises `CorruptSnapshot` when its bytes are not those of its digest (then there is no new
    object), `StoreUnavailable`, and what the transfer was stopped with.
    """
    size_bytes = sealed.size_bytes
    with open_regular(path) as file:
        if size_bytes > PART_BYTES:
            _upload_parts(bucket, key, file.fileno(), sealed, threads, transfer)
            return
        _check_digest(file.fileno(), key, sealed, transfer)
        body = _Window(file.fileno(), 0, size_bytes, transfer)
        retried(bucket, transfer, lambda: bucket.put(key, body))
        transfer.advance(size_bytes)


def put(bucket: Bucket, key: str, body: io.IOBase, size_bytes: int, transfer: Transfer) -> None:
    """Writes a small object, unless one of its size is there already."""
    if not _is_there(bucket, key, size_bytes, transfer):
        retried(bucket, transfer, lambda: bucket.put(key, body))


def _upload_parts(
    bucket: Bucket,
    key: str,
    fd: int,
    sealed: Sealed,
    threads: ThreadPoolExecutor,
    transfer: Transfer,
) -> None:
    id_ = retried(bucket, transfer, lambda: bucket.begin_upload(key))
    size = sealed.size_bytes
    part_bytes = max(PART_BYTES, -(-size // MAX_PARTS // _MIB) * _MIB)

    def send(number: int, start: int) -> str:
        body = _Window(fd, start, min(part_bytes, size - start), transfer)
        tag = retried(bucket, transfer, lambda: bucket.put_part(key, id_, number, body))
        transfer.advance(body.size_bytes)
        return tag

    starts = range(0, size, part_bytes)
    parts = [_submit(threads, transfer, send, n, start) for n, start in enumerate(starts, 1)]
    try:
        # While they travel, this thread reads the file to see whether it is worth sending.
        _check_digest(fd, key, sealed, transfer)
        tags = [part.result() for part in parts]
        _end_upload(bucket, key, id_, tags, size, transfer)
    except BaseException as error:
        _stop(transfer, error)
        for part in parts:
            part.cancel()
        wait(parts)
        with suppress(Fault, Missing, StoreUnavailable):
            bucket.abort_upload(key, id_)
        raise


def _end_upload(
    bucket: Bucket, key: str, id_: str, tags: list[str], size_bytes: int, transfer: Transfer
) -> None:
    try:
        retried(bucket, transfer, lambda: bucket.end_upload(key, id_, tags))
    except Missing:
        # The answer to an attempt that worked may have been lost.
        if not _is_there(bucket, key, size_bytes, transfer):
            raise bucket.unavailable("it has forgotten an upload") from None


def _is_there(bucket: Bucket, key: str, size_bytes: int, transfer: Transfer) -> bool:
    try:
        return retried(bucket, transfer, lambda: bucket.find(key)).size_bytes == size_bytes
    except Missing:
        return False


def _check_digest(fd: int, key: str, sealed: Sealed, transfer: Transfer) -> None:
    found = sha256()
    for at in range(0, sealed.size_bytes, PIECE_BYTES):
        transfer.check()
        found.update(os.pread(fd, min(PIECE_BYTES, sealed.size_bytes - at), at))
    if found.hexdigest() != sealed.digest:
        digest, _, name = key.partition("/")
        corrupt(f"the bytes of {name} differ from their digest", digest)


def _submit(
    threads: ThreadPoolExecutor,
    transfer: Transfer,
    work: Callable[[int, int], T],
    *arguments: int,
) -> Future[T]:
    """Has a thread do its share; when it fails, the others need not go on."""

    def run() -> T:
        try:
            return work(*arguments)
        except BaseException as error:
            _stop(transfer, error)
            raise

    return threads.submit(run)


def _stop(transfer: Transfer, error: BaseException) -> None:
    transfer.stop(error if isinstance(error, DsfnError) else None)


def _pause(bucket: Bucket, transfer: Transfer, attempt: int, fault: Fault) -> None:
    """Waits before the next attempt, or gives up. `attempt` has failed, the first being 1."""
    if attempt >= ATTEMPTS:
        raise bucket.unavailable(f"{fault}, {ATTEMPTS} times in a row") from fault
    pause_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** (attempt - 1))
    transfer.pause(pause_s * random.uniform(0.5, 1))


class _Window(io.RawIOBase):
    """Some bytes of a file as a stream of their own. It can be rewound: boto3 reads a body once
    to sign it and once to send it, and after a failure again."""

    def __init__(self, fd: int, start: int, size_bytes: int, transfer: Transfer) -> None:
        super().__init__()
        self.size_bytes = size_bytes
        self._fd = fd
        self._start = start
        self._transfer = transfer
        self._at = 0

    def readable(self) -> bool:
        """Part of `io.RawIOBase`."""
        return True

    def seekable(self) -> bool:
        """Part of `io.RawIOBase`."""
        return True

    def tell(self) -> int:
        """Part of `io.RawIOBase`."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Part of `io.RawIOBase`."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size_bytes}[whence]
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: Buffer, /) -> int:
        """Part of `io.RawIOBase`. Raises what the transfer was stopped with."""
        self._transfer.check()
        view = memoryview(buffer)[: max(0, self.size_bytes - self._at)]
        count = os.preadv(self._fd, [view], self._start + self._at)
        self._at += count
        return count
