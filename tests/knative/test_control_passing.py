"""A replica that does not lead passes requests on as they come, or says when to come again."""

from __future__ import annotations

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from dsfn.knative.control import passing as passing_connections
from dsfn.knative.control.passing import Passing

Serve = Callable[[StreamReader, StreamWriter], Awaitable[None]]
WITHIN_S = 10.0


@asynccontextmanager
async def passing(
    leader: str | Callable[[], str | None] | None, patience_s: float = 0.2
) -> AsyncIterator[str]:
    """The URL of a replica that follows this leader."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        found = Passing(leader if callable(leader) else lambda: leader, url, patience_s)
        await found.start(listener)
        try:
            async with asyncio.timeout(WITHIN_S):
                yield url
        finally:
            await found.drain(0.0)


@asynccontextmanager
async def leading(serve: Serve) -> AsyncIterator[str]:
    """The URL of a leader that does with connections what it is told."""

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def test_parts_of_an_answer_come_as_the_leader_sends_them() -> None:
    more = asyncio.Event()

    async def stream(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nfirst")
        await writer.drain()
        await more.wait()
        writer.write(b"last")

    async def run() -> None:
        async with leading(stream) as url, passing(url) as here, httpx.AsyncClient() as http:
            async with http.stream("GET", f"{here}/anything") as answer:
                chunks = answer.aiter_raw()
                assert await anext(chunks) == b"first"
                more.set()
                assert await anext(chunks) == b"last"

    asyncio.run(run())


def test_parts_of_a_request_come_as_the_client_sends_them() -> None:
    came = asyncio.Event()

    async def receive(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"first")
        came.set()
        await reader.readuntil(b"last")
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await came.wait()
        yield b"last"

    async def run() -> None:
        async with leading(receive) as url, passing(url) as here, httpx.AsyncClient() as http:
            assert (await http.post(f"{here}/anything", content=body())).status_code == 204

    asyncio.run(run())


def test_the_leader_sees_a_client_go_away() -> None:
    seen = asyncio.Event()

    async def wait(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b""
        seen.set()

    async def run() -> None:
        async with leading(wait) as url, passing(url) as here:
            port = httpx.URL(here).port
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()
            await seen.wait()

    asyncio.run(run())


def test_a_client_sees_the_leader_go_away() -> None:
    async def go(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")

    async def run() -> None:
        async with leading(go) as url, passing(url) as here, httpx.AsyncClient() as http:
            try:
                await http.get(f"{here}/anything")
            except httpx.RemoteProtocolError:
                return
            raise AssertionError("half an answer was taken for one")

    asyncio.run(run())


def test_a_leader_that_nobody_reaches_is_none() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            gone = f"http://127.0.0.1:{closed.getsockname()[1]}"
        for leader in (None, gone):
            async with passing(leader) as here, httpx.AsyncClient() as http:
                # More than fits the buffers between: the client still sends when it is answered.
                answer = await http.post(f"{here}/deployments", content=b"x" * (8 << 20))
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["type"].endswith("/unavailable")

    asyncio.run(run())


def test_who_comes_while_nobody_leads_waits_for_the_next_leader() -> None:
    leader: list[str] = []

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"hello")
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")

    async def run() -> None:
        async with (
            leading(answer) as url,
            passing(lambda: leader[0] if leader else None, WITHIN_S) as here,
            httpx.AsyncClient() as http,
        ):
            asked = asyncio.create_task(http.post(f"{here}/anything", content=b"hello"))
            await asyncio.sleep(0.3)
            assert not asked.done()
            leader.append(url)
            assert (await asked).status_code == 204

    asyncio.run(run())


def test_a_replica_that_ends_waits_for_what_it_has_taken() -> None:
    leader: list[str] = []

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")

    async def run() -> None:
        async with leading(answer) as url, httpx.AsyncClient() as http:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                here = f"http://127.0.0.1:{listener.getsockname()[1]}"
                # It came before anybody took it.
                asked = asyncio.create_task(http.get(f"{here}/anything"))
                await asyncio.sleep(0.1)
                found = Passing(lambda: leader[0] if leader else None, here)
                await found.start(listener)
                ended = asyncio.create_task(found.drain(WITHIN_S))
                await asyncio.sleep(1.5)
                assert not ended.done()
                leader.append(url)
                assert (await asked).status_code == 204
                await ended

    asyncio.run(run())


def test_its_own_health_is_its_own() -> None:
    async def run() -> None:
        async with passing(None) as here, httpx.AsyncClient() as http:
            for probe in ("liveness", "readiness"):
                assert (await http.get(f"{here}/health/{probe}")).status_code == 200

    asyncio.run(run())


def test_a_connection_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing_connections, "MAX_CONNECTIONS", 1)

    async def run() -> None:
        async with passing(None) as here, httpx.AsyncClient() as http:
            _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(here).port)
            await asyncio.sleep(0.05)
            answer = await http.get(f"{here}/health/liveness")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            writer.close()

    asyncio.run(run())


def test_what_is_no_request_ends_without_harm() -> None:
    async def run() -> None:
        async with passing(None) as here:
            port = httpx.URL(here).port
            for sent in (b"", b"x" * 200_000, b"GET"):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(sent)
                writer.write_eof()
                try:
                    assert await reader.read() == b""
                except ConnectionResetError:
                    pass
                writer.close()
            async with httpx.AsyncClient() as http:
                assert (await http.get(f"{here}/health/liveness")).status_code == 200

    asyncio.run(run())


def test_a_leader_that_stops_takes_what_pods_ask_and_leaves_the_rest_to_the_next() -> None:
    asked: list[bytes] = []

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).partition(b" HTTP")[0])
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")

    async def run() -> None:
        leader: list[str] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            here = f"http://127.0.0.1:{listener.getsockname()[1]}"
            leader.append(here)
            found = Passing(lambda: leader[0], here, patience_s=0.2)
            async with (
                leading(answer) as inner,
                leading(answer) as after,
                httpx.AsyncClient() as http,
            ):
                await found.start(listener, inner)
                waits = asyncio.create_task(http.post(f"{here}/functions/shout"))
                for method, path in (
                    ("POST", "/usage"),
                    ("GET", "/usage/call-1"),
                    ("GET", "/rates"),
                    ("GET", "/rates/1"),
                ):
                    assert (await http.request(method, here + path)).status_code == 204
                # However long it takes until the next one leads.
                await asyncio.sleep(0.5)
                assert not waits.done()
                assert len(asked) == 4
                await found.start(listener)
                leader[0] = after
                assert (await waits).status_code == 204
                assert asked[-1] == b"POST /functions/shout"
                await found.drain(0.0)

    asyncio.run(run())
