"""The port of a pod, or of the agent: what it is told to be, and that it can be had."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from dsfn.functions.errors import UsageError

DEFAULT_PORT = 8080
BACKLOG = 2048
PROVED = "DSFN_PROVED"


def told_port(environ: Mapping[str, str], usual: int, name: str = "PORT") -> int:
    """$PORT, or another variable. Raises `UsageError` for one that is none."""
    text = environ.get(name) or str(usual)
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise UsageError(f"{name} is {text!r}, and not a port from 0 to 65535.")
    return int(text)


def cannot_listen(who: str, port: int, error: OSError) -> UsageError:
    """Why a port cannot be had, in a sentence."""
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    return UsageError(f"The {who} cannot listen on port {port}: {reason}.")


def is_proved(environ: Mapping[str, str]) -> bool:
    """Whether a pod of the revision has been ready before."""
    return environ.get(PROVED) == "true"


def take_port() -> socket.socket:
    """A socket on $PORT of every IPv4 address, which is where queue-proxy connects. Of a proved
    revision it listens: the pod is ready, and whoever connects waits for the rest. Of another it
    refuses who connects. Raises `UsageError`."""
    port = told_port(os.environ, DEFAULT_PORT)
    taken = socket.socket()
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("", port))
        if is_proved(os.environ):
            taken.listen(BACKLOG)
    except OSError as error:
        taken.close()
        raise cannot_listen("pod", port, error) from error
    return taken
