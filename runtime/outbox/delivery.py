"""One request with usage to one receiver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dsfn.billing.entry import Entry
from dsfn.billing.exports.usage_event import usage_event
from dsfn.functions.interface import EVENT_CONTENT_TYPE
from dsfn.runtime.events.binding import BATCH_CONTENT_TYPE
from dsfn.runtime.outbox.settings import SinkSettings

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 64 << 10
# What is wrong is not what was sent, or may pass.
_NOT_ABOUT_THE_BODY = (401, 403, 404, 408, 429)


class NotDelivered(Exception):
    """The receiver has not taken the events, as far as we know.

    `is_body_refused`: it does not want what was sent. `retry_after_s`: when it wants to be asked
    again.
    """

    def __init__(
        self, reason: str, is_body_refused: bool = False, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(reason)
        self.is_body_refused = is_body_refused
        self.retry_after_s = retry_after_s


def open_client() -> httpx.AsyncClient:
    """What requests are sent with."""
    import httpx

    timeout = httpx.Timeout(REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    return httpx.AsyncClient(timeout=timeout)


async def deliver(client: httpx.AsyncClient, sink: SinkSettings, entries: Sequence[Entry]) -> None:
    """Returns when the receiver has taken the events of all entries. Raises `NotDelivered`."""
    events = [usage_event(entry) for entry in entries]
    if sink.format == "batch":
        await _post(client, sink, BATCH_CONTENT_TYPE, json.dumps(events).encode())
        return
    for event in events:
        await _post(client, sink, EVENT_CONTENT_TYPE, json.dumps(event).encode())


async def _post(
    client: httpx.AsyncClient, sink: SinkSettings, content_type: str, body: bytes
) -> None:
    import httpx

    headers = {**sink.headers, "Content-Type": content_type}
    try:
        async with (
            asyncio.timeout(REQUEST_TIMEOUT_S),
            client.stream("POST", sink.url, content=body, headers=headers) as response,
        ):
            if not response.is_success:
                raise _refusal(response)
            await _skip(response)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        raise NotDelivered(str(error) or type(error).__name__) from error


async def _skip(response: httpx.Response) -> None:
    """Reads a short answer, so that its connection can be used again."""
    size_bytes = 0
    async for piece in response.aiter_raw():
        size_bytes += len(piece)
        if size_bytes > MAX_ANSWER_BYTES:
            return


def _refusal(response: httpx.Response) -> NotDelivered:
    status = response.status_code
    wait = response.headers.get("retry-after", "")
    return NotDelivered(
        f"it answered {status}",
        is_body_refused=400 <= status < 500 and status not in _NOT_ABOUT_THE_BODY,
        # A date may stand there as well; then we come back when we would anyway.
        retry_after_s=float(wait) if wait.isascii() and wait.isdigit() else 0.0,
    )
