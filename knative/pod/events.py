"""Events at a pod's root: each is a call, and its result the event that follows.

One event, in binary or structured mode, is answered with one; a batch with a batch of what
follows from its events. A result of null is no event. Where the pod is bound to a sink, what
follows goes there, and the answer is empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.types import Scope, Send

from dsfn.functions.errors import DsfnError
from dsfn.functions.event import Event
from dsfn.functions.values import dataclass
from dsfn.knative.pod.sink import EventSink
from dsfn.runtime.clock import Clock
from dsfn.runtime.events.binding import BATCH_CONTENT_TYPE, encode_event
from dsfn.runtime.events.results import completed_event, event_body, says_nothing, taken_for_loop
from dsfn.runtime.gateway.calls import Headers, answer_headers, call_of, send_whole
from dsfn.runtime.invoke import Invoker, new_call_id
from dsfn.runtime.model import Answer, Call, Payer

RequestHeaders = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class EventCalls:
    """Calls of one function with events. `sink`: None where replies go back."""

    function: str
    payer: Payer
    invoker: Invoker
    clock: Clock
    sink: EventSink | None

    async def answer(
        self, call_id: str, event: Event, scope: Scope, headers: RequestHeaders, send: Send
    ) -> None:
        """Serves a request with one event. Raises the tree's errors."""
        answer = await self._invoke(self._call(call_id, event, scope, headers), event)
        reply = self._follower(answer, event)
        if reply is None:
            await send_whole(send, 204, answer_headers(answer), b"")
        elif self.sink is not None:
            await self.sink.send(reply)
            await send_whole(send, 202, answer_headers(answer), b"")
        else:
            own_headers, body = encode_event(reply, headers)
            await send_whole(send, 200, [*answer_headers(answer), *own_headers], body)

    async def answer_batch(
        self, events: Sequence[Event], scope: Scope, headers: RequestHeaders, send: Send
    ) -> None:
        """Serves a request with a batch: all of its events, or an error that names one which
        failed. Who sends the batch again has those tried again that failed, and no others."""
        outcomes = await asyncio.gather(
            *(self._one_of_batch(event, scope, headers) for event in events),
            return_exceptions=True,
        )
        replies = []
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, DsfnError):
                outcome.add_fields(index=index)
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome is not None:
                replies.append(event_body(outcome))
        if not replies:
            await send_whole(send, 204, [], b"")
            return
        own: Headers = [(b"content-type", BATCH_CONTENT_TYPE.encode())]
        await send_whole(send, 200, own, b"[" + b",".join(replies) + b"]")

    async def _one_of_batch(
        self, event: Event, scope: Scope, headers: RequestHeaders
    ) -> Event | None:
        """What goes back for an event of a batch."""
        call_id = new_call_id(self.clock.now_us())
        answer = await self._invoke(self._call(call_id, event, scope, headers), event)
        reply = self._follower(answer, event)
        if reply is None or self.sink is None:
            return reply
        await self.sink.send(reply)
        return None

    def _call(self, call_id: str, event: Event, scope: Scope, headers: RequestHeaders) -> Call:
        now_us = self.clock.now_us()
        return call_of(call_id, self.function, self.payer, scope, headers, b"", event, now_us)

    async def _invoke(self, call: Call, event: Event) -> Answer:
        if (loop := taken_for_loop(event)) is not None:
            raise loop
        return await self.invoker.invoke(call)

    def _follower(self, answer: Answer, event: Event) -> Event | None:
        if says_nothing(answer.content_type, answer.body):
            return None
        content_type, body = answer.content_type, answer.body
        return completed_event(self.function, answer.call_id, content_type, body, event)
