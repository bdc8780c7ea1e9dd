"""Reading requests: headers by name, bodies within their limit and in time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.types import Message, Receive, Scope

from dsfn.functions.errors import MalformedBody, PayloadTooLarge, Unavailable
from dsfn.functions.values import dataclass
from dsfn.runtime.config import Limits

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_DOCUMENT_BYTES = 64 << 10


class ClientGone(Exception):
    """The client closed the connection: there is nobody to answer."""


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The headers by lower-case name; of repeated ones the last."""
    return dict(scope["headers"])


@dataclass(eq=False)
class BodyReader:
    """Reads request bodies. All that are held at once are bounded together, too: what `read`
    returned counts until it is given to `release`."""

    limits: Limits
    _held_bytes: int = 0

    async def read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The body. Raises `PayloadTooLarge`, `Unavailable`, `MalformedBody`, `ClientGone`."""
        self._check_announced(headers)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            # Nearly every body comes in one piece: no timer, no copy.
            body: bytes = message.get("body", b"")
            self._hold(len(body), len(body))
            return body
        try:
            async with asyncio.timeout(self.limits.body_timeout_s):
                return await self._read_rest(message, receive)
        except TimeoutError:
            raise MalformedBody(
                f"The body did not arrive within {self.limits.body_timeout_s:g} s."
            ) from None

    def release(self, body: bytes) -> None:
        """The request of this body is answered."""
        self._held_bytes -= len(body)

    async def _read_rest(self, message: Message, receive: Receive) -> bytes:
        chunks, size = [], 0
        try:
            while message["type"] == "http.request":
                chunk: bytes = message.get("body", b"")
                self._hold(len(chunk), size + len(chunk))
                size += len(chunk)
                chunks.append(chunk)
                if not message.get("more_body"):
                    return b"".join(chunks)
                message = await receive()
            raise ClientGone
        except BaseException:
            self._held_bytes -= size
            raise

    def _hold(self, more_bytes: int, body_bytes: int) -> None:
        if body_bytes > self.limits.max_body_bytes:
            raise self._too_large()
        if self._held_bytes + more_bytes > self.limits.max_waiting_bytes:
            raise Unavailable("The node holds as many request bytes as it may.", retry_after_s=1)
        self._held_bytes += more_bytes

    def _check_announced(self, headers: dict[bytes, bytes]) -> None:
        announced = headers.get(b"content-length")
        if announced is not None and int(announced) > self.limits.max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> PayloadTooLarge:
        limit = self.limits.max_body_bytes
        return PayloadTooLarge(
            f"The body is larger than {limit} bytes.", field="body", limit_bytes=limit
        )


async def read_object(request: Request, limits: Limits) -> dict[str, Any]:
    """The JSON object that a small request carries; an empty body is an empty object.

    Raises `MalformedBody`, `PayloadTooLarge`.
    """
    reader = BodyReader(replace(limits, max_body_bytes=MAX_DOCUMENT_BYTES))
    data = await reader.read(headers_of(request.scope), request.receive)
    try:
        document = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        raise MalformedBody("The body is not valid JSON.") from None
    if not isinstance(document, dict):
        raise MalformedBody("The body is not a JSON object.")
    return document
