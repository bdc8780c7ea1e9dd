"""The pod's port, open before anything is imported that serving needs."""

from __future__ import annotations

import os
import socket

DEFAULT_PORT = 8080
BACKLOG = 2048


class CannotListen(Exception):
    """The port cannot be had; says why in a sentence."""


def listen() -> socket.socket:
    """A socket that listens on $PORT of every address. Clients that connect wait in its queue
    until they are accepted. Raises `CannotListen`."""
    text = os.environ.get("PORT", str(DEFAULT_PORT))
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise CannotListen(f"PORT is {text!r}, and not a port from 0 to 65535.")
    try:
        return _bound(int(text))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotListen(f"The pod cannot listen on port {text}: {reason}.") from error


def _bound(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("::", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
        )
    return socket.create_server(("", port), backlog=BACKLOG)
