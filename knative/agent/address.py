"""Where the agent of a node is: a socket's path, or a port."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TCP port of the node's agent, by which no files come."""

    host: str
    port: int


def read_address(text: str) -> Path | Endpoint:
    """A path, or "tcp://HOST:PORT". Raises `UsageError`."""
    if text.startswith("/"):
        return Path(text)
    try:
        parts = urlsplit(text)
        if parts.scheme == "tcp" and parts.hostname and parts.port and not parts.path:
            return Endpoint(parts.hostname, parts.port)
    except ValueError:
        pass
    raise UsageError(
        f"DSFN_AGENT is {text!r}, and neither the path of a socket nor tcp://HOST:PORT."
    )


def connect(address: Path | Endpoint, timeout_s: float) -> socket.socket:
    """A connection, of which each operation takes so long at most. Raises `OSError`."""
    if isinstance(address, Endpoint):
        connection = socket.create_connection((address.host, address.port), timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(timeout_s)
        connection.connect(str(address))
    except BaseException:
        connection.close()
        raise
    return connection
