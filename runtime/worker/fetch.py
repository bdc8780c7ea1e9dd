"""What a `$ref` points to: a blob of the node's store, or something on the web."""

from __future__ import annotations

import os
import re
import time
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from dsfn.functions.errors import CorruptBlob, NotFound, PayloadTooLarge
from dsfn.functions.invalid import invalid
from dsfn.functions.media import OCTET_STREAM
from dsfn.functions.values import dataclass

if TYPE_CHECKING:
    import httpx

FETCH_TIMEOUT_S = 30.0

_BLOB = re.compile(r"blob:sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Gets references. `blobs` is the directory `<2 hex>/<sha256 hex>`; the content type of a
    blob is in a file of the same name with `.type` behind it, where it is known."""

    blobs: Path
    max_bytes: int

    def __call__(self, reference: str) -> tuple[bytes, str]:
        """The bytes and their content type.

        Raises `NotFound`, `InvalidInput`, `PayloadTooLarge`, and `CorruptBlob` for a blob whose
        bytes are not those of its name.
        """
        blob = _BLOB.fullmatch(reference)
        if blob is not None:
            return self._read_blob(blob[1])
        if reference.startswith(("http://", "https://")):
            return self._download(reference)
        raise invalid("$ref", f"is {reference!r}, not a blob:sha256:... or a http(s) URL")

    def _read_blob(self, digest: str) -> tuple[bytes, str]:
        path = self.blobs / digest[:2] / digest
        reference = f"blob:sha256:{digest}"
        try:
            # Without a buffer the bytes are read once, into the one object that the part keeps.
            with path.open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size > self.max_bytes:
                    raise self._too_large(reference)
                data = file.readall()
        except FileNotFoundError as error:
            raise NotFound(f"There is no {reference}.", kind="blob", name=reference) from error
        if sha256(data).hexdigest() != digest:
            raise CorruptBlob(f"{reference} is damaged on the node's disk.", blob=digest)
        try:
            return data, path.with_name(f"{digest}.type").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return data, OCTET_STREAM

    def _download(self, url: str) -> tuple[bytes, str]:
        import httpx

        deadline_s = time.monotonic() + FETCH_TIMEOUT_S
        data = bytearray()
        try:
            with _client().stream("GET", url) as response:
                if response.status_code in (404, 410):
                    raise NotFound(f"There is no {url}.", kind="url", name=url)
                response.raise_for_status()
                for piece in response.iter_bytes():
                    data += piece
                    if len(data) > self.max_bytes:
                        raise self._too_large(url)
                    if time.monotonic() > deadline_s:
                        raise invalid("$ref", f"takes over {FETCH_TIMEOUT_S:g} s to get: {url}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise invalid("$ref", f"cannot be fetched from {url}: {error}") from error
        return bytes(data), str(response.headers.get("content-type", OCTET_STREAM))

    def _too_large(self, reference: str) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"{reference} is over the limit of {self.max_bytes} bytes.", limit_bytes=self.max_bytes
        )


@cache
def _client() -> httpx.Client:
    """One for all: making it reads the machine's certificates."""
    import httpx

    return httpx.Client(timeout=10.0, follow_redirects=True)
