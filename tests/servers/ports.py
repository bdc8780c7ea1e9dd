"""Ports for servers that have to be told theirs."""

from __future__ import annotations

import random
import socket

# Below those that the kernel gives to clients: the many connections of tests that run beside this
# one cannot take it before its server does.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
