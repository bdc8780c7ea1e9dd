"""Places for checkpoints: a directory, or a bucket that locks what is put into it."""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from dsfn.billing.checkpoints import MAX_DOCUMENT_BYTES
from dsfn.billing.durable import write_whole
from dsfn.billing.evidence import Place
from dsfn.functions.errors import StoreUnavailable
from dsfn.runtime.notary.settings import PlaceSettings
from dsfn.runtime.tiers.opening import open_bucket
from dsfn.snapshots.addresses import read_store
from dsfn.snapshots.s3_bucket import Bucket, Missing
from dsfn.snapshots.s3_transfer import retried
from dsfn.snapshots.transfer import Transfer

# How long a locked object stays: as long as books are kept.
LOCKED_FOR = timedelta(days=3660)
# One checkpoint, or one question.
REQUEST_TIMEOUT_S = 20.0
LISTING_TIMEOUT_S = 120.0
RETRY_AFTER_S = 10
_NAME = re.compile(r"checkpoint-([0-9]{19})\.json")
_T = TypeVar("_T")


def open_place(settings: PlaceSettings) -> Place:
    """A place; it is not asked anything yet. Raises `UsageError` when boto3 is not installed."""
    address = read_store(settings.store)
    if isinstance(address, Path):
        return DirectoryPlace(settings.store, address)
    return BucketPlace(settings.store, open_bucket(settings))


def name_of(number: int) -> str:
    """What the checkpoint of a number is called: names are in the order of numbers."""
    return f"checkpoint-{number:019d}.json"


class DirectoryPlace:
    """A directory that must be there: a disk that is not mounted must not be taken for one."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._directory = directory

    def put(self, number: int, text: str) -> None:
        """See `Place`."""
        with self._sorted():
            target = self._directory / name_of(number)
            if target.exists():
                return
            # Several nodes may have the same place.
            by_way_of = self._directory / f".{target.name}.{secrets.token_hex(4)}"
            write_whole(target, text.encode(), durably=True, mode=0o444, by_way_of=by_way_of)

    def since(self, number: int, limit: int) -> Sequence[tuple[int, str]]:
        """See `Place`."""
        with self._sorted():
            numbers = sorted(n for n in self._numbers() if n >= number)[:limit]
            return [(n, self._read(n)) for n in numbers]

    def _numbers(self) -> Iterator[int]:
        for path in self._directory.iterdir():
            if match := _NAME.fullmatch(path.name):
                yield int(match[1])

    def _read(self, number: int) -> str:
        with (self._directory / name_of(number)).open("rb") as file:
            return file.read(MAX_DOCUMENT_BYTES + 1).decode(errors="replace")

    @contextmanager
    def _sorted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(
                f"{self.name} cannot be used: {error.strerror}.",
                reason=error.strerror,
                retry_after_s=RETRY_AFTER_S,
            ) from error


class BucketPlace:
    """A part of a bucket. Where the bucket locks objects, nobody deletes these for ten years."""

    def __init__(self, name: str, bucket: Bucket) -> None:
        self.name = name
        self._bucket = bucket
        self._locks: bool | None = None

    def put(self, number: int, text: str) -> None:
        """See `Place`."""
        key, bucket = name_of(number), self._bucket
        try:
            self._asked(lambda: bucket.find(key))
        except Missing:
            if self._locks is None:
                self._locks = self._asked(bucket.locks_objects)
            until = datetime.now(UTC) + LOCKED_FOR if self._locks else None
            self._asked(lambda: bucket.put(key, io.BytesIO(text.encode()), until))

    def since(self, number: int, limit: int) -> Sequence[tuple[int, str]]:
        """See `Place`."""
        bucket, after = self._bucket, name_of(number - 1) if number > 0 else ""
        keys = self._asked(lambda: bucket.keys(after, limit), LISTING_TIMEOUT_S)
        numbers = [int(match[1]) for key in keys if (match := _NAME.fullmatch(key))]
        return [(n, self._asked(lambda n=n: self._read(n))) for n in numbers]  # type: ignore[misc]

    def _read(self, number: int) -> str:
        found = self._bucket.get_whole(name_of(number), MAX_DOCUMENT_BYTES)
        return found.decode(errors="replace")

    def _asked(self, request: Callable[[], _T], timeout_s: float = REQUEST_TIMEOUT_S) -> _T:
        transfer = Transfer(timeout_s, "a checkpoint")
        return retried(self._bucket, transfer, request)
