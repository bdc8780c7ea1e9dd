"""A pod's HTTP: the function at `/`, and what probes and scrapers ask for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

import dsfn
from dsfn.functions.errors import DsfnError, NotFound, RequestError
from dsfn.functions.values import dataclass
from dsfn.knative.pod.ending import Ending
from dsfn.knative.pod.events import EventCalls
from dsfn.knative.pod.metrics import LateMetrics
from dsfn.knative.pod.platform import HEADER
from dsfn.knative.pod.platform_calls import PlatformCalls
from dsfn.knative.pod.rates import CurrentRates
from dsfn.knative.pod.usage import CONTROL_PATIENCE_S
from dsfn.runtime.clock import Clock
from dsfn.runtime.events.binding import BATCH_CONTENT_TYPE, event_of_request, events_of_request
from dsfn.runtime.gateway.calls import ClientWatch, call_of, send_answer, send_whole
from dsfn.runtime.gateway.request import BodyReader, ClientGone, headers_of
from dsfn.runtime.invoke import Invoker, new_call_id
from dsfn.runtime.model import Payer, Revision
from dsfn.runtime.problems import problem_response

if TYPE_CHECKING:
    from starlette.responses import Response

_BATCH = BATCH_CONTENT_TYPE.encode()
# A content type, and what is of it.
_Page = tuple[str, bytes]


@dataclass(eq=False)
class Front:
    """The ASGI application. `in_flight`: requests that are not answered yet; `served`: how many
    have come."""

    revision: Revision
    payer: Payer
    invoker: Invoker
    rates: CurrentRates
    bodies: BodyReader
    events: EventCalls
    platform: PlatformCalls
    ending: Ending
    metrics: LateMetrics
    clock: Clock
    in_flight: int = 0
    served: int = 0
    _pages: Mapping[str, Callable[[Scope], _Page]] = field(init=False)

    def __post_init__(self) -> None:
        self._pages = {
            "/health/liveness": _ok,
            "/health/readiness": _ok,
            "/metrics": self._exposition,
            "/openapi.json": self._openapi,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        self.in_flight += 1
        self.served += 1
        try:
            await self._serve(scope, receive, send)
        finally:
            self.in_flight -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path == "/" and method == "POST":
            await self._problems(self._root, scope, receive, send)
        elif path == f"/functions/{self.revision.function}" and method == "POST":
            await self._problems(self._call, scope, receive, send)
        elif path in self._pages and method in ("GET", "HEAD"):
            content_type, body = self._pages[path](scope)
            headers = [(b"content-type", content_type.encode())]
            await send_whole(send, 200, headers, body)
        else:
            await self._refusal(path, method)(scope, receive, send)

    async def _problems(
        self,
        serve: Callable[[str, Scope, Receive, Send], Awaitable[None]],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        call_id = new_call_id(self.clock.now_us())
        try:
            await self.rates.wait(CONTROL_PATIENCE_S)
            await serve(call_id, scope, receive, send)
        except ClientGone:
            return
        except DsfnError as error:
            await problem_response(error, call_id)(scope, receive, send)

    async def _root(self, call_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /: a call, an event or a batch of events."""
        headers = headers_of(scope)
        body = await self.bodies.read(headers, receive)
        try:
            if HEADER in headers:
                await self._answer(call_id, scope, receive, send, headers, body)
            elif headers.get(b"content-type", b"").lower().startswith(_BATCH):
                events = events_of_request(headers, body)
                await self.events.answer_batch(events, scope, headers, send)
            elif (event := event_of_request(headers, body)) is not None:
                await self.events.answer(call_id, event, scope, headers, send)
            else:
                await self._answer(call_id, scope, receive, send, headers, body)
        finally:
            self.bodies.release(body)

    async def _call(self, call_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /functions/{name}: as a node answers it."""
        headers = headers_of(scope)
        body = await self.bodies.read(headers, receive)
        try:
            await self._answer(call_id, scope, receive, send, headers, body)
        finally:
            self.bodies.release(body)

    async def _answer(
        self,
        call_id: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: dict[bytes, bytes],
        body: bytes,
    ) -> None:
        # What the control service calls with is a call, whatever it holds: it wants the result.
        said = HEADER in headers
        event = None if said else event_of_request(headers, body)
        name, now_us = self.revision.function, self.clock.now_us()
        call = call_of(call_id, name, self.payer, scope, headers, body, event, now_us)
        if said:
            await self.platform.answer(call, headers, scope, receive, send)
            return
        if call.idempotency_key is not None:
            # A repeat must find its first answer, whether the client waited for it or not.
            await send_answer(send, await self.invoker.invoke(call), event, headers)
            return
        watch = ClientWatch(receive, self.ending.lost)
        async with watch:
            await send_answer(send, await self.invoker.invoke(watch.watched(call)), event, headers)

    def _refusal(self, path: str, method: str) -> Response:
        if path in ("/", f"/functions/{self.revision.function}"):
            error: DsfnError = RequestError("Method Not Allowed.")
            response = problem_response(error, status=405)
            response.headers["Allow"] = "POST"
            return response
        return problem_response(NotFound(f"There is nothing at {path}.", kind="path", name=path))

    def _exposition(self, scope: Scope) -> _Page:
        """Prometheus exposition."""
        return "text/plain; version=0.0.4; charset=utf-8", self.metrics.exposition()

    def _openapi(self, scope: Scope) -> _Page:
        """The OpenAPI description of the function."""
        # Large modules that hardly any pod is asked for.
        from starlette.datastructures import URL

        from dsfn.runtime.gateway.openapi import openapi_document

        pairs = [(self.revision.options, self.revision.interface)]
        url = str(URL(scope=scope).replace(path="", query="", fragment=""))
        document = openapi_document(pairs, dsfn.__version__, url)
        return "application/json", json.dumps(document).encode()


def _ok(scope: Scope) -> _Page:
    return "text/plain; charset=utf-8", b"ok"
