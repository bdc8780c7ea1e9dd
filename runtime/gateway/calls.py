"""From a request to a call, and from its answer to a response, on a node and in a pod.

Written against ASGI itself, since every call passes here and a request object
costs more than the rest of the gateway.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from starlette.types import Receive, Scope, Send

from dsfn.functions.errors import DsfnError, InvalidInput
from dsfn.functions.event import Event
from dsfn.functions.interface import EVENT_CONTENT_TYPE, JSON_CONTENT_TYPE
from dsfn.runtime.events.binding import answer_event
from dsfn.runtime.events.results import event_body, event_key
from dsfn.runtime.gateway.request import ClientGone
from dsfn.runtime.model import CLIENT_KEY, Answer, Call, Payer
from dsfn.runtime.problems import problem_document

# A call that is over sooner is not worth a task that watches for its client.
WATCH_CLIENT_AFTER_S = 0.05
MAX_IDEMPOTENCY_KEY_CHARS = 255

Headers = list[tuple[bytes, bytes]]
_JSON = JSON_CONTENT_TYPE.encode()


def call_of(
    call_id: str,
    function: str,
    payer: Payer,
    scope: Scope,
    headers: dict[bytes, bytes],
    body: bytes,
    event: Event | None,
    now_us: int,
) -> Call:
    """The call that a request is, or the event that it carries. Raises `InvalidInput`."""
    client = scope.get("client")
    key = headers.get(b"idempotency-key")
    if event is not None:
        content_type, body = EVENT_CONTENT_TYPE, event_body(event)
        own_key: str | None = event_key(event, function)
    else:
        content_type = _text(headers.get(b"content-type", _JSON))
        own_key = None if key is None else idempotency_key(_text(key))
    return Call(
        id=call_id,
        function=function,
        body=body,
        content_type=content_type,
        accept=_text(headers.get(b"accept", b"*/*")),
        tenant=payer.tenant,
        key_id=payer.key_id,
        caller=client[0] if client else "",
        idempotency_key=own_key,
        received_at_us=now_us,
    )


async def send_answer(
    send: Send,
    answer: Answer,
    event: Event | None,
    headers: dict[bytes, bytes],
    more: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Sends the answer to a request with these headers; to one with an event, an event. `more`:
    what the head of an answer to a plain request says, too."""
    if answer.stream is not None:
        await _send_stream(send, answer, answer.stream, more)
    elif event is not None:
        own_headers, own_body = answer_event(answer, event, headers)
        await send_whole(send, 200, [*answer_headers(answer), *own_headers], own_body)
    else:
        headers_out = answer_headers(answer)
        headers_out.append(_content_type(answer))
        headers_out.extend(more)
        await send_whole(send, 200, headers_out, answer.body)


async def _nobody_lost_it() -> DsfnError | None:
    return None


class ClientWatch:
    """Cancels the task inside when the client goes away; the block then ends in `ClientGone`.

    `lost` is asked when the connection has broken: what the call failed for if that was not the
    client's doing. The call goes on until it answers."""

    def __init__(
        self,
        receive: Receive,
        lost: Callable[[], Awaitable[DsfnError | None]] = _nobody_lost_it,
    ) -> None:
        self._receive = receive
        self._lost = lost
        self._cause: DsfnError | None = None
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._gone = False

    def watched(self, call: Call) -> Call:
        """The call that is made inside: called off, it has failed for what broke its connection."""
        return replace(call, called_off=lambda: self._cause or call.called_off())

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(WATCH_CLIENT_AFTER_S, self._start)

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._gone and isinstance(error, asyncio.CancelledError):
            assert self._task is not None
            self._task.uncancel()
            raise ClientGone

    def _start(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        message = await self._receive()
        if message["type"] == "http.disconnect" and self._task is not None:
            self._cause = await self._lost()
            self._gone = True
            self._task.cancel()


def answer_headers(answer: Answer) -> Headers:
    """What every answer says of itself: phases, invocation, revision, usage and cost. What a
    stream costs is known at its end: server-sent events tell it in a last event, `usage`."""
    headers = [
        (b"server-timing", answer.phases.server_timing().encode()),
        (b"dsfn-invocation-id", answer.call_id.encode()),
        (b"dsfn-revision", answer.revision.encode()),
    ]
    if answer.stream is None:
        for name, text in answer.charge.headers():
            headers.append((name.encode(), text.encode("latin-1", "replace")))
    if answer.replayed:
        headers.append((b"dsfn-replayed", b"true"))
    return headers


def prefers_async(scope: Scope) -> bool:
    """Whether `respond-async` is among the preferences (RFC 7240)."""
    values = [value for name, value in scope["headers"] if name == b"prefer"]
    preferences = b",".join(values).lower().split(b",")
    return any(p.partition(b";")[0].strip() == b"respond-async" for p in preferences)


def _content_type(answer: Answer) -> tuple[bytes, bytes]:
    return (b"content-type", answer.content_type.encode("latin-1"))


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Sends a response whose body is here."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_stream(
    send: Send,
    answer: Answer,
    stream: AsyncGenerator[bytes, None],
    more: Sequence[tuple[bytes, bytes]],
) -> None:
    """Passes a stream on. What fails after the first byte can only cut it off; the reason is
    in the ledger and the metrics, and, for server-sent events, in a last event `error`."""
    headers = answer_headers(answer)
    headers.append(_content_type(answer))
    headers.append((b"cache-control", b"no-store"))
    headers.extend(more)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async with aclosing(stream):
        try:
            async for chunk in stream:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except DsfnError as error:
            if answer.content_type.startswith("text/event-stream"):
                await send({"type": "http.response.body", "body": _error_event(error)})
            # A body that is not ended properly is closed by the server: the client sees a cut.
            return
    if answer.content_type.startswith("text/event-stream") and answer.settled is not None:
        usage = b"event: usage\ndata: " + json.dumps(answer.settled()).encode() + b"\n\n"
        await send({"type": "http.response.body", "body": usage, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _error_event(error: DsfnError) -> bytes:
    """The last server-sent event of a stream that failed: `error`, with the problem as data."""
    return b"event: error\ndata: " + json.dumps(problem_document(error)).encode() + b"\n\n"


def idempotency_key(header: str) -> str:
    """The key that a client's header stands for. Raises `InvalidInput`."""
    if not 0 < len(header) <= MAX_IDEMPOTENCY_KEY_CHARS:
        raise InvalidInput(
            f"Idempotency-Key must have from 1 to {MAX_IDEMPOTENCY_KEY_CHARS} characters.",
            field="Idempotency-Key",
        )
    return f"{CLIENT_KEY}{header}"


def _text(value: bytes) -> str:
    return value.decode("latin-1")
