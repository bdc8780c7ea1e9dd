"""Where the agent of a node is, a socket's path or a port, and how it is asked there."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass
from dsfn.knative.agent.wire import (
    LENGTH,
    MAX_DESCRIPTORS,
    MAX_PACKET_BYTES,
    BadPacket,
    Message,
    decode,
    encode,
    framed,
)


@dataclass(frozen=True, slots=True)
class NodeSocket:
    """A Unix socket of the node's agent, by which files come, too."""

    path: Path
    gives_files: ClassVar[bool] = True

    def connect(self, timeout_s: float) -> socket.socket:
        """A connection, of which each operation takes so long at most. Raises `OSError`."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.settimeout(timeout_s)
            connection.connect(str(self.path))
        except BaseException:
            connection.close()
            raise
        return connection

    def exchange(self, connection: socket.socket, message: Message) -> tuple[Message, list[int]]:
        """One request: its reply, and the descriptors that came along. Blocks. Raises `OSError`
        when the other side has gone, `BadPacket`."""
        connection.sendall(encode(message))
        packet, descriptors, _, _ = socket.recv_fds(connection, MAX_PACKET_BYTES, MAX_DESCRIPTORS)
        if not packet:
            raise ConnectionResetError("it has gone")
        return decode(packet), descriptors


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TCP port of the node's agent, by which no files come."""

    host: str
    port: int
    gives_files: ClassVar[bool] = False

    def connect(self, timeout_s: float) -> socket.socket:
        """See `NodeSocket`."""
        connection = socket.create_connection((self.host, self.port), timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def exchange(self, connection: socket.socket, message: Message) -> tuple[Message, list[int]]:
        """See `NodeSocket`."""
        connection.sendall(framed(encode(message)))
        (size,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
        if size > MAX_PACKET_BYTES:
            raise BadPacket("it is too long")
        return decode(_exactly(connection, size)), []


Address = NodeSocket | Endpoint


def read_address(text: str) -> Address:
    """A path, or "tcp://HOST:PORT". Raises `UsageError`."""
    if text.startswith("/"):
        return NodeSocket(Path(text))
    try:
        parts = urlsplit(text)
        if parts.scheme == "tcp" and parts.hostname and parts.port and not parts.path:
            return Endpoint(parts.hostname, parts.port)
    except ValueError:
        pass
    raise UsageError(
        f"DSFN_AGENT is {text!r}, and neither the path of a socket nor tcp://HOST:PORT."
    )


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise ConnectionResetError("it has gone")
        found += part
    return bytes(found)
