"""uvicorn's HTTP protocol with what it lacks: limits on heads, and errors that are problems."""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from dsfn.functions.errors import DsfnError, HeadTooLarge, MalformedBody, QueueFull
from dsfn.runtime.coalescing import CoalescingTransport
from dsfn.runtime.config import Limits
from dsfn.runtime.problems import problem_response

# A server that stops waits so long for a request that may be on its way: the first of a connection,
# and one after others, whose client knows that connections end between requests.
FIRST_REQUEST_S = 1.0
NEXT_REQUEST_S = 0.25


class AnswerTransport(CoalescingTransport):
    """Holds the head of an answer until its body comes, which is nearly always at once."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Sends `data` with what is pending, or at the latest at the end of this turn."""
        if self._pending:
            self.write_now(data)
        else:
            super().write(data)


class GatewayProtocol(HttpToolsProtocol):
    """One client's connection.

    A head must be complete in time and within its limit; connections beyond theirs are told
    to come back.
    """

    limits = Limits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._in_head = True
        self._received_bytes = self._headers_bytes = 0
        self._late: asyncio.TimerHandle | None = None
        self._is_last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of `asyncio.Protocol`."""
        wrapped = AnswerTransport(cast(asyncio.Transport, transport))
        super().connection_made(cast(asyncio.Transport, wrapped))
        if len(self.connections) > self.limits.max_connections:
            self._refuse(QueueFull("Too many connections are open.", retry_after_s=1))
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of `asyncio.Protocol`."""
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Part of `asyncio.Protocol`."""
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        # Bounds also what never ends, of which the parser tells nothing.
        self._received_bytes += len(data)
        if self._received_bytes > self.limits.max_head_bytes:
            self._refuse(self._head_too_large())
        elif self._late is None:
            self._await_head()

    def on_message_begin(self) -> None:
        """Called by the parser."""
        super().on_message_begin()
        self._in_head, self._headers_bytes = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._headers_bytes += len(name) + len(value)
        if self._headers_bytes > self.limits.max_head_bytes:
            raise ValueError("head too large")  # the parser then calls `send_400_response`
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._head_is_there()
        super().on_headers_complete()
        if self._is_last:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """What uvicorn calls when the server stops. Whose request is on its way would take the end
        of the connection for an answer that was lost: one more is answered, as the last."""
        self._is_last = True
        if self._is_idle():
            patience_s = FIRST_REQUEST_S if self._last_cycle() is None else NEXT_REQUEST_S
            self.loop.call_later(patience_s, self._end_if_idle)
        else:
            super().shutdown()

    def _last_cycle(self) -> RequestResponseCycle | None:
        # uvicorn does not say that there is none before the first request.
        return cast(RequestResponseCycle | None, self.cycle)

    def _is_idle(self) -> bool:
        cycle = self._last_cycle()
        return cycle is None or cycle.response_complete

    def _end_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls when a request is not HTTP."""
        if self._headers_bytes > self.limits.max_head_bytes:
            self._refuse(self._head_too_large())
        else:
            self._refuse(MalformedBody("What came is not a valid HTTP request."))

    def _await_head(self) -> None:
        self._late = self.loop.call_later(self.limits.head_timeout_s, self.transport.close)

    def _head_is_there(self) -> None:
        self._in_head, self._received_bytes = False, 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, error: DsfnError) -> None:
        """Answers without an application, and closes."""
        response = problem_response(error)
        lines = [STATUS_LINE[response.status_code].removesuffix(b"\r\n")]
        lines += [name + b": " + value for name, value in response.raw_headers]
        body = bytes(response.body)
        self.transport.write(b"\r\n".join([*lines, b"connection: close", b"", body]))
        self.transport.close()

    def _head_too_large(self) -> HeadTooLarge:
        limit = self.limits.max_head_bytes
        return HeadTooLarge(f"The request's head is larger than {limit} bytes.", limit_bytes=limit)


def protocol_for(limits: Limits) -> type[GatewayProtocol]:
    """The protocol with a node's limits, as a class: uvicorn makes its instances."""
    return type("NodeProtocol", (GatewayProtocol,), {"limits": limits})
