"""The pod's port: taken at once, open once the pod has what it serves."""

from __future__ import annotations

import os
import socket

DEFAULT_PORT = 8080
BACKLOG = 2048


class CannotListen(Exception):
    """The port cannot be had; says why in a sentence."""


def take_port() -> socket.socket:
    """A socket on $PORT of every IPv4 address, which is where queue-proxy connects; it refuses who
    connects before it listens. Raises `CannotListen`."""
    text = os.environ.get("PORT", str(DEFAULT_PORT))
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise CannotListen(f"PORT is {text!r}, and not a port from 0 to 65535.")
    taken = socket.socket()
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("", int(text)))
    except OSError as error:
        taken.close()
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise CannotListen(f"The pod cannot listen on port {text}: {reason}.") from error
    return taken
