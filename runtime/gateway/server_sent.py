"""Server-sent events as answers (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

EVENT_STREAM = "text/event-stream"
BEAT_S = 1.0
_BEAT = b": \n\n"


class EventStreamResponse(StreamingResponse):
    """Sends events; their generator is closed when the client goes away."""

    media_type = EVENT_STREAM

    def __init__(
        self, events: AsyncGenerator[bytes, None], headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(events, headers={**(headers or {}), "Cache-Control": "no-store"})
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Part of ASGI."""
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


def server_sent_event(name: str, data: object) -> bytes:
    """One event, its data as JSON."""
    text = json.dumps(data, default=str, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n".encode()


async def with_beats(
    items: AsyncIterator[bytes], goes_on: Callable[[], bool], beat_s: float = BEAT_S
) -> AsyncGenerator[bytes, None]:
    """The items, and between them a comment whenever none came for a while: who reads sees that
    the connection lives. Ends early when it does not go on."""
    waiting: asyncio.Task[bytes] | None = None
    try:
        while goes_on():
            waiting = waiting or asyncio.ensure_future(_next(items))
            if not (await asyncio.wait({waiting}, timeout=beat_s))[0]:
                yield _BEAT
                continue
            done, waiting = waiting, None
            try:
                yield done.result()
            except StopAsyncIteration:
                return
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def _next(items: AsyncIterator[bytes]) -> bytes:
    return await anext(items)
