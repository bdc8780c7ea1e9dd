"""Connections to the agent, as the agent has them: packets that come, and replies that go."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import ClassVar

from dsfn.functions.values import dataclass
from dsfn.knative.agent.wire import LENGTH, MAX_PACKET_BYTES, framed

# One that does not take its reply for so long is given up.
REPLY_TIMEOUT_S = 10.0
_FULL_BUFFER_S = 0.005
# The end of a pod is seen though its network has gone with it: asked for every 2 s from 4 s of
# silence on, three times.
_KEEPALIVE = {
    socket.TCP_KEEPIDLE: 4,
    socket.TCP_KEEPINTVL: 2,
    socket.TCP_KEEPCNT: 3,
}


@dataclass(frozen=True, slots=True)
class SocketPackets:
    """Of a Unix socket, which keeps packets whole."""

    connection: socket.socket
    give_files: ClassVar[bool] = True

    async def receive(self) -> bytes:
        """The next packet, b"" once the other side has gone. Raises `OSError`."""
        return await asyncio.get_running_loop().sock_recv(self.connection, MAX_PACKET_BYTES)

    async def send(self, packet: bytes, descriptors: Sequence[int]) -> None:
        """Sends a reply, and files along with it. Raises `OSError` when it is not taken in
        time."""
        async with asyncio.timeout(REPLY_TIMEOUT_S):
            while True:
                try:
                    socket.send_fds(self.connection, [packet], descriptors)
                except BlockingIOError:
                    await asyncio.sleep(_FULL_BUFFER_S)
                else:
                    return


@dataclass(frozen=True, slots=True)
class StreamPackets:
    """Of a TCP connection, on which each packet's length goes before it."""

    connection: socket.socket
    give_files: ClassVar[bool] = False

    async def receive(self) -> bytes:
        """See `SocketPackets`."""
        head = await self._exactly(LENGTH.size)
        if not head:
            return b""
        (size,) = LENGTH.unpack(head)
        if size > MAX_PACKET_BYTES:
            raise ConnectionAbortedError("A packet is too long.")
        return await self._exactly(size)

    async def send(self, packet: bytes, descriptors: Sequence[int]) -> None:
        """See `SocketPackets`. There are no files."""
        assert not descriptors
        async with asyncio.timeout(REPLY_TIMEOUT_S):
            await asyncio.get_running_loop().sock_sendall(self.connection, framed(packet))

    async def _exactly(self, size: int) -> bytes:
        """So many bytes, or none where the other side has gone before."""
        loop, found = asyncio.get_running_loop(), bytearray()
        while len(found) < size:
            part = await loop.sock_recv(self.connection, size - len(found))
            if not part:
                return b""
            found += part
        return bytes(found)


Packets = SocketPackets | StreamPackets


def packets_of(connection: socket.socket) -> Packets:
    """Those of a connection that has come."""
    connection.setblocking(False)
    if connection.family == socket.AF_UNIX:
        return SocketPackets(connection)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return StreamPackets(connection)
