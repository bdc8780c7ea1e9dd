"""What a replica that does not lead does with requests: it passes them on to the leader.

By connections: what a client sends goes on as it comes, and so does what the leader answers. Its
own health is all that it answers itself. While nobody leads a connection waits for whoever will.

So does what comes to a leader that was told to stop, while it waits for calls under way. But what
pods ask, by whom these calls end, goes on to it: it is the one who writes until it has resigned.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import field
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse, Response

from dsfn.functions.errors import Unavailable
from dsfn.functions.values import dataclass
from dsfn.knative.handover import DOOR_PATIENCE_S
from dsfn.runtime.gateway.serving import BACKLOG
from dsfn.runtime.problems import problem_response

MAX_CONNECTIONS = 4096
HEAD_TIMEOUT_S = 15.0
CONNECT_S = 3.0
# A replica that ends goes on until nothing has come for so long.
QUIET_S = 1.0
_LOOK_AGAIN_S = 0.1
_RETRY_AFTER_S = 2.0
# A client that still sends would lose the answer if its connection were closed at once.
_LINGER_S = 2.0
_READ_BYTES = 64 << 10
_OWN = (b"GET /health/liveness ", b"GET /health/readiness ")
# See `dsfn.knative.pod.control`.
_OF_PODS = (b"POST /usage ", b"GET /usage/", b"GET /rates ", b"GET /rates/")
_NO_LEADER = "The control service has no leader now."


@dataclass(eq=False)
class Passing:
    """Serves at a listener from `start` to `stop` or `drain`, which leave the listener open.

    `leader`: the URL of the leader, None while there is none. `own_url`: at which this replica is
    called itself; should it lead, that is no leader for whom it passes on what it takes.
    `patience_s`: how long a connection waits for a leader, and for one that stops besides.
    """

    leader: Callable[[], str | None]
    own_url: str
    patience_s: float = DOOR_PATIENCE_S
    _connections: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None
    # Of this replica, while it leads and stops.
    _inner_url: str | None = None
    _came_at_s: float = 0.0

    async def start(self, listener: socket.socket, inner_url: str | None = None) -> None:
        """Begins, unless it has. `inner_url`: where this replica, which was told to stop, takes
        what pods ask until it leads no longer, which it tells by starting this again."""
        self._inner_url = inner_url
        if self._server is not None:
            return
        self._server = await asyncio.start_server(
            self._serve, sock=listener.dup(), backlog=BACKLOG, limit=_READ_BYTES
        )

    async def stop(self) -> None:
        """Takes no more connections; those that it has go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def drain(self, patience_s: float) -> None:
        """Goes on until nothing comes and nothing is under way, no longer than `patience_s`, and
        cuts off what has not ended by then."""
        loop = asyncio.get_running_loop()
        self._came_at_s = loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._connections or loop.time() - self._came_at_s < QUIET_S:
                    await asyncio.sleep(_LOOK_AGAIN_S)
        await self.stop()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._came_at_s = asyncio.get_running_loop().time()
        try:
            # Whoever goes away, goes away.
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
                await self._handle(reader, writer)
        finally:
            writer.close()
            self._connections.discard(task)

    async def _handle(self, reader: StreamReader, writer: StreamWriter) -> None:
        if len(self._connections) > MAX_CONNECTIONS:
            await _answer(reader, writer, _refusal("Too many connections are open."))
            return
        async with asyncio.timeout(HEAD_TIMEOUT_S):
            line = await reader.readuntil(b"\r\n")
        if line.startswith(_OWN):
            await _answer(reader, writer, PlainTextResponse("ok"))
            return
        try:
            there, back = await self._connected(line)
        except TimeoutError:
            await _answer(reader, writer, _refusal(_NO_LEADER))
            return
        try:
            back.write(line)
            await _both_ways((reader, back), (there, writer))
        finally:
            back.close()

    async def _connected(self, line: bytes) -> tuple[StreamReader, StreamWriter]:
        """A connection to whoever is to answer what begins so, as soon as there is one. Raises
        `TimeoutError`."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.patience_s) as patience:
            while True:
                if (url := self._whom(line)) is not None:
                    with suppress(OSError, TimeoutError):
                        return await _connect(url)
                if self._inner_url is not None:
                    patience.reschedule(loop.time() + self.patience_s)
                await asyncio.sleep(_LOOK_AGAIN_S)

    def _whom(self, line: bytes) -> str | None:
        if self._inner_url is not None and line.startswith(_OF_PODS):
            return self._inner_url
        url = self.leader()
        return url if self._server is None or url != self.own_url else None


async def _connect(url: str) -> tuple[StreamReader, StreamWriter]:
    """Raises `OSError`, `TimeoutError`."""
    parts = urlsplit(url)
    async with asyncio.timeout(CONNECT_S):
        return await asyncio.open_connection(parts.hostname, parts.port, limit=_READ_BYTES)


async def _both_ways(
    request: tuple[StreamReader, StreamWriter], answer: tuple[StreamReader, StreamWriter]
) -> None:
    """Passes on what comes until the leader has no more to say, or the client has gone away."""
    sending = asyncio.create_task(_send(*request))
    try:
        await _pass_on(*answer)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        await _pass_on(reader, writer)
    except OSError:
        writer.close()  # which the leader takes for the client's going away


async def _pass_on(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(_READ_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _refusal(why: str) -> Response:
    return problem_response(Unavailable(why, retry_after_s=_RETRY_AFTER_S))


async def _answer(reader: StreamReader, writer: StreamWriter, response: Response) -> None:
    """Answers, and hears the client out for a moment."""
    status = HTTPStatus(response.status_code)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode(), b"connection: close"]
    lines += [b"%s: %s" % each for each in response.raw_headers]
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body))
    await writer.drain()
    writer.write_eof()
    async with asyncio.timeout(_LINGER_S):
        while await reader.read(_READ_BYTES):
            pass
