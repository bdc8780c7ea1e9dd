"""uvicorn's HTTP protocol over a transport that sends head and body of an answer together."""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dsfn.runtime.coalescing import CoalescingTransport


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
    """One client's connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of `asyncio.Protocol`."""
        wrapped = AnswerTransport(cast(asyncio.Transport, transport))
        super().connection_made(cast(asyncio.Transport, wrapped))
