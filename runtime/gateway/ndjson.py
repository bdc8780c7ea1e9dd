"""Answers of one JSON document a line, sent as they come."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

NDJSON_CONTENT_TYPE = "application/x-ndjson"


class NdjsonResponse(StreamingResponse):
    """Sends whole lines; their generator is closed when the client goes away."""

    media_type = NDJSON_CONTENT_TYPE

    def __init__(self, lines: AsyncGenerator[bytes, None]) -> None:
        super().__init__(lines)
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Part of ASGI."""
        async with aclosing(self._lines):
            await super().__call__(scope, receive, send)


def ndjson_line(document: Mapping[str, object]) -> bytes:
    """A document as a line."""
    return json.dumps(document, default=str, separators=(",", ":")).encode() + b"\n"
