"""A server that stops answers what was on its way to it, and says that it is the last."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import Server

from dsfn.runtime.config import Limits
from dsfn.runtime.gateway import protocol
from dsfn.runtime.gateway.serving import server_config

REQUEST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"
WITHIN_S = 20.0


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(body)(scope, receive, send)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Server, StreamReader, StreamWriter]]:
    """A server, and a connection to it, which it has taken."""
    server = Server(server_config(echo, Limits(), 0))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    server.config.port = 0
    await server.startup()
    try:
        async with asyncio.timeout(WITHIN_S):
            port = server.servers[0].sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while not server.server_state.connections:
                await asyncio.sleep(0)
            yield server, reader, writer
            writer.close()
    finally:
        await server.shutdown()


async def ask(reader: StreamReader, writer: StreamWriter) -> bytes:
    """The head of the answer to a request."""
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(2) == b"hi"
    return head


def stop(server: Server) -> None:
    """What uvicorn does with its connections."""
    for connection in server.server_state.connections:
        connection.shutdown()


@pytest.mark.parametrize("asked_before", [0, 2])
def test_a_request_that_was_on_its_way_is_answered_and_is_the_last(
    monkeypatch: pytest.MonkeyPatch, asked_before: int
) -> None:
    for name in ("FIRST_REQUEST_S", "NEXT_REQUEST_S"):
        monkeypatch.setattr(protocol, name, WITHIN_S)

    async def run() -> None:
        async with connected() as (server, reader, writer):
            for _ in range(asked_before):
                assert b"connection: close" not in await ask(reader, writer)
            stop(server)
            assert b"connection: close" in await ask(reader, writer)
            assert await reader.read() == b""

    asyncio.run(run())


@pytest.mark.parametrize("asked_before", [0, 1])
def test_a_connection_on_which_nothing_comes_is_ended(asked_before: int) -> None:
    async def run() -> None:
        async with connected() as (server, reader, writer):
            for _ in range(asked_before):
                await ask(reader, writer)
            stop(server)
            assert await reader.read() == b""

    asyncio.run(run())
