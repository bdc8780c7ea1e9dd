"""One bucket of an S3 server: single requests through boto3, their failures sorted.

The only module that knows boto3, which it imports when the first request is made:
that takes a quarter of a second, and a node without a store never needs it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from datetime import datetime
from io import IOBase
from typing import Any, cast

from dsfn.functions.errors import StoreUnavailable
from dsfn.functions.values import dataclass

CONNECT_TIMEOUT_S = 5.0
# How long a connection may be silent, not how long a request may take.
READ_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 64
MAX_KEYS = 100_000
RECEIVE_BYTES = 1 << 20
_RETRIED_STATUSES = frozenset((408, 425, 429))
# Status 400, and yet worth another try: bytes that were late, or that changed on their way.
_RETRIED_CODES = frozenset(("BadDigest", "RequestTimeout", "XAmzContentSHA256Mismatch"))
_NOT_LET_IN = frozenset(
    ("AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch")
)


class Fault(Exception):
    """A request failed in a way that may pass: it can be made again."""


class Missing(Exception):
    """There is no such object, or no such upload."""


class OutOfRange(Exception):
    """The object is shorter than the range that was asked for."""


@dataclass(frozen=True, slots=True)
class Object:
    """An object in the bucket; `key` is without the bucket's prefix. `written_at_s` is when, in
    seconds since the epoch, by the server's clock."""

    key: str
    size_bytes: int
    written_at_s: float


@dataclass(eq=False)
class Bucket:
    """The objects of `name` whose keys begin with `prefix` ("" or "some/prefix/").

    `endpoint_url` and `region` may be "": then boto3's own configuration says. Credentials
    are always those that boto3 finds. Methods are called from any thread; each raises `Fault`,
    `Missing`, or `StoreUnavailable` for what trying again does not mend.
    """

    name: str
    prefix: str = ""
    endpoint_url: str = ""
    region: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _made: Any = None

    def find(self, key: str) -> Object:
        """What is known of an object."""
        with self._sorted():
            head = self._client().head_object(**self._at(key))
            return Object(key, int(head["ContentLength"]), head["LastModified"].timestamp())

    def get(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to `end` of an object, as they come.

        Raises `OutOfRange`, and `Fault` wherever they stop coming.
        """
        with self._sorted():
            response = self._client().get_object(**self._at(key), Range=f"bytes={start}-{end - 1}")
            if not response.get("ContentRange", "").startswith(f"bytes {start}-{end - 1}/"):
                response["Body"].close()
                raise OutOfRange
            # A read of a fixed length would wait for all of it, however slowly it comes.
            with response["Body"] as stream:
                while chunk := cast(bytes, stream.read1(RECEIVE_BYTES)):
                    start += len(chunk)
                    yield chunk
        if start < end:
            raise Fault(f"the connection was cut {end - start} bytes early")

    def get_whole(self, key: str, limit_bytes: int) -> bytes:
        """All bytes of a small object; of a larger one `limit_bytes` and one more."""
        with self._sorted():
            response = self._client().get_object(**self._at(key))
            with response["Body"] as stream:
                data = cast(bytes, stream.read(limit_bytes + 1))
            if len(data) < min(response["ContentLength"], limit_bytes + 1):
                raise Fault("the connection was cut in the middle of an object")
            return data

    def put(self, key: str, body: IOBase, locked_until: datetime | None = None) -> None:
        """Writes an object: all of `body`, wherever it stands. `locked_until`: when it may be
        deleted, in a bucket that locks objects."""
        body.seek(0)
        lock: dict[str, Any] = {}
        if locked_until is not None:
            lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": locked_until}
        with self._sorted():
            self._client().put_object(**self._at(key), Body=body, **lock)

    def locks_objects(self) -> bool:
        """Whether objects of this bucket can be locked."""
        try:
            with self._sorted():
                found = self._client().get_object_lock_configuration(Bucket=self.name)
        except (Missing, StoreUnavailable):
            # It has no such configuration, or the server knows none.
            return False
        return bool(found["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled")

    def keys(self, after: str, limit: int) -> list[str]:
        """The keys behind `after`, in their order, at most `limit` (no more than 1000 a time
        come from the server)."""
        with self._sorted():
            pages = self._client().get_paginator("list_objects_v2")
            found = pages.paginate(
                Bucket=self.name,
                Prefix=self.prefix,
                StartAfter=self.prefix + after,
                PaginationConfig={"MaxItems": limit},
            )
            keys = [entry["Key"] for page in found for entry in page.get("Contents", ())]
            return [key.removeprefix(self.prefix) for key in keys]

    def begin_upload(self, key: str) -> str:
        """Begins an upload in parts; its id."""
        with self._sorted():
            return str(self._client().create_multipart_upload(**self._at(key))["UploadId"])

    def put_part(self, key: str, upload: str, number: int, body: IOBase) -> str:
        """Uploads part `number`, counted from 1; its tag."""
        body.seek(0)
        with self._sorted():
            response = self._client().upload_part(
                **self._at(key), UploadId=upload, PartNumber=number, Body=body
            )
            return str(response["ETag"])

    def end_upload(self, key: str, upload: str, tags: list[str]) -> None:
        """Makes an object of all parts, whose tags are given in order."""
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
        with self._sorted():
            self._client().complete_multipart_upload(
                **self._at(key), UploadId=upload, MultipartUpload={"Parts": parts}
            )

    def abort_upload(self, key: str, upload: str) -> None:
        """Drops the parts of an upload that will not end."""
        with self._sorted():
            self._client().abort_multipart_upload(**self._at(key), UploadId=upload)

    def objects(self, under: str = "") -> Iterator[Object]:
        """Every object whose key begins with `under`, at most `MAX_KEYS` of them."""
        with self._sorted():
            pages = self._client().get_paginator("list_objects_v2")
            found = pages.paginate(
                Bucket=self.name,
                Prefix=self.prefix + under,
                PaginationConfig={"MaxItems": MAX_KEYS},
            )
            for page in found:
                for entry in page.get("Contents", ()):
                    key, written_at = entry["Key"], entry["LastModified"]
                    size_bytes = int(entry["Size"])
                    yield Object(key.removeprefix(self.prefix), size_bytes, written_at.timestamp())

    def delete(self, key: str) -> None:
        """Deletes an object; that it is not there is as good."""
        with self._sorted():
            self._client().delete_object(**self._at(key))

    def close(self) -> None:
        """Closes every connection."""
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    def unavailable(self, reason: str) -> StoreUnavailable:
        """The error that says why the store cannot be used."""
        return StoreUnavailable(
            f"The store s3://{self.name}/{self.prefix} cannot be used: {reason}.",
            reason=reason,
            retry_after_s=10,
        )

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.name, "Key": self.prefix + key}

    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            max_pool_connections=MAX_CONNECTIONS,
            # Whoever asks tries again, from where the bytes stopped; boto3 would begin anew.
            retries={"total_max_attempts": 1},
            # Only Amazon is known to give every bucket a host name of its own.
            s3={"addressing_style": "path" if self.endpoint_url else "auto"},
        )
        try:
            return boto3.session.Session().client(
                "s3",
                endpoint_url=self.endpoint_url or None,
                region_name=self.region or None,
                config=config,
            )
        except ValueError as error:  # AWS_ENDPOINT_URL is no URL
            raise self.unavailable(_words(error)) from error

    @contextmanager
    def _sorted(self) -> Iterator[None]:
        """Sorts what boto3 and the connection below it raise."""
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        from botocore.exceptions import ConnectionError as EndpointError
        from botocore.parsers import ResponseParserError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientError as error:
            raise self._refused(error.response) from error
        except (HTTPClientError, EndpointError, HTTPError, ResponseParserError) as error:
            raise Fault(_words(error)) from error
        except BotoCoreError as error:
            raise self.unavailable(_words(error)) from error

    def _refused(self, response: Any) -> Exception:
        """What an answer of the server that is no success stands for."""
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
        code = str(response.get("Error", {}).get("Code", ""))
        # An answer without a body, to HEAD, has the status in the place of a code.
        reason = f"it answers {status}" + (f" {code}" if code != str(status) else "")
        if code == "NoSuchBucket":
            return self.unavailable(f"it has no bucket {self.name!r}")
        if code in _NOT_LET_IN:
            return self.unavailable(f"it refuses the credentials ({status} {code})")
        if status == 404:
            return Missing(reason)
        if status == 416:
            return OutOfRange(reason)
        if status >= 500 or status in _RETRIED_STATUSES or code in _RETRIED_CODES:
            return Fault(reason)
        return self.unavailable(reason)


def _words(error: Exception) -> str:
    """What an exception says, as the end of a sentence."""
    return " ".join(str(error).split()).removesuffix(".") or type(error).__name__
