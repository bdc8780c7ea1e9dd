"""The pod's port, open before anything is imported that serving needs."""

from __future__ import annotations

import os
import socket

DEFAULT_PORT = 8080
BACKLOG = 2048


class CannotListen(Exception):
    """The port cannot be had; says why in a sentence."""


def listen() -> socket.socket:
    """A socket that listens on $PORT of every IPv4 address, which is where queue-proxy connects.
    Clients wait in its queue until they are accepted. Raises `CannotListen`."""
    text = os.environ.get("PORT", str(DEFAULT_PORT))
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise CannotListen(f"PORT is {text!r}, and not a port from 0 to 65535.")
    try:
        return socket.create_server(("", int(text)), backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise CannotListen(f"The pod cannot listen on port {text}: {reason}.") from error
