"""POST /functions/{name}: who may call is asked, and the call is made or stored for later."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from dsfn.functions.errors import DsfnError
from dsfn.functions.event import Event
from dsfn.functions.values import dataclass
from dsfn.runtime.events.binding import event_of_request
from dsfn.runtime.gateway.access import INVOKE, require_own_blobs
from dsfn.runtime.gateway.calls import (
    ClientWatch,
    call_of,
    prefers_async,
    send_answer,
    send_whole,
)
from dsfn.runtime.gateway.request import ClientGone, headers_of
from dsfn.runtime.invoke import new_call_id
from dsfn.runtime.model import Call, Payer
from dsfn.runtime.problems import problem_response
from dsfn.runtime.services import Services


@dataclass(eq=False)
class FunctionsEndpoint:
    """Serves calls of functions."""

    services: Services

    async def serve(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request to the function `name`."""
        call_id = new_call_id(self.services.clock.now_us())
        try:
            await self._serve(call_id, name, scope, receive, send)
        except ClientGone:
            return
        except DsfnError as error:
            await problem_response(error, call_id)(scope, receive, send)

    async def _serve(
        self, call_id: str, name: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        headers = headers_of(scope)
        identity = self.services.access.identify(headers.get(b"authorization"))
        identity.require(INVOKE)
        identity.require_callable(name)
        body = await self.services.bodies.read(headers, receive)
        try:
            require_own_blobs(self.services, identity, body)
            event = event_of_request(headers, body)
            now_us = self.services.clock.now_us()
            call = call_of(call_id, name, identity.payer, scope, headers, body, event, now_us)
            if b"prefer" in headers and prefers_async(scope):
                await self._accept(call, send)
            elif call.idempotency_key is not None:
                # A repeat must find its first answer, whether the client waited for it or not.
                await self._answer(call, event, headers, send)
            else:
                async with ClientWatch(receive):
                    await self._answer(call, event, headers, send)
        finally:
            self.services.bodies.release(body)

    async def _answer(
        self, call: Call, event: Event | None, headers: dict[bytes, bytes], send: Send
    ) -> None:
        await send_answer(send, await self.services.invoker.invoke(call), event, headers)

    async def _accept(self, call: Call, send: Send) -> None:
        """Stores a call for later and says where its answer will be."""
        revision = self.services.registry.route(call.function)
        self.services.budgets.require_left(Payer(call.tenant, call.key_id), call.function)
        call_id = await self.services.queue.put(call)
        self.services.dispatcher.wake()
        headers = [
            (b"location", f"/invocations/{call_id}".encode()),
            (b"dsfn-invocation-id", call_id.encode()),
            (b"dsfn-revision", revision.id.encode()),
            (b"preference-applied", b"respond-async"),
        ]
        await send_whole(send, 202, headers, b"")
