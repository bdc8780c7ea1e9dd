"""Reading requests: headers by name, bodies within their limit and in time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope

from dsfn.functions.errors import CallCancelled, MalformedBody, PayloadTooLarge, Unavailable
from dsfn.runtime.config import Limits


class ClientGone(CallCancelled):
    """The client closed the connection before its request was complete."""


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The headers by lower-case name; of repeated ones the last."""
    return dict(scope["headers"])


@dataclass(eq=False)
class BodyReader:
    """Reads request bodies. All bodies held at once are bounded together, too."""

    limits: Limits
    _held_bytes: int = 0

    async def read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The body. Raises `PayloadTooLarge`, `Unavailable`, `MalformedBody`, `ClientGone`."""
        self._check_announced(headers)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            # Nearly every body comes in one piece: no timer, no copy.
            return self._checked(message.get("body", b""))
        try:
            async with asyncio.timeout(self.limits.body_timeout_s):
                return await self._read_rest(message, receive)
        except TimeoutError:
            raise MalformedBody(
                f"The body did not arrive within {self.limits.body_timeout_s:g} s."
            ) from None

    async def _read_rest(self, message: Message, receive: Receive) -> bytes:
        chunks, size = [], 0
        try:
            while message["type"] == "http.request":
                chunk: bytes = message.get("body", b"")
                chunks.append(chunk)
                size += len(chunk)
                self._held_bytes += len(chunk)
                if size > self.limits.max_body_bytes:
                    raise self._too_large()
                if self._held_bytes > self.limits.max_waiting_bytes:
                    raise Unavailable(
                        "The node holds as many request bytes as it may.", retry_after_s=1
                    )
                if not message.get("more_body"):
                    return b"".join(chunks)
                message = await receive()
        finally:
            self._held_bytes -= size
        raise ClientGone("The client closed the connection.")

    def _check_announced(self, headers: dict[bytes, bytes]) -> None:
        announced = headers.get(b"content-length")
        if announced is not None and int(announced) > self.limits.max_body_bytes:
            raise self._too_large()

    def _checked(self, body: bytes) -> bytes:
        if len(body) > self.limits.max_body_bytes:
            raise self._too_large()
        return body

    def _too_large(self) -> PayloadTooLarge:
        limit = self.limits.max_body_bytes
        return PayloadTooLarge(
            f"The body is larger than {limit} bytes.", field="body", limit_bytes=limit
        )
