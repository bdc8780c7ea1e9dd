"""A worker, from the fork to its end: settles in, warms up, serves its socket."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import resource
import select
import signal
import socket
import sys
from typing import NoReturn

import uvloop

from dsfn.runtime.worker.server import Server
from dsfn.runtime.worker.warm import reseed, warm_up
from dsfn.snapshots.parent import die_with_parent


def become(parent: int, connection: int, output: int, owner: int | None = None) -> NoReturn:
    """Turns a fresh fork of `parent` into a worker that serves the socket `connection`, prints
    into the pipe `output` and gets GPU memory through the socket `owner`."""
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the kernel knew that it was to tell
    os.setsid()
    _redirect(output)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until there is a call for it to stop
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()  # a crash in native code leaves its Python stack in the logs
    gc.disable()  # until it is a replica: nothing of what a load makes is garbage
    reseed()
    serve(socket.socket(fileno=connection), None if owner is None else socket.socket(fileno=owner))


def serve(connection: socket.socket, owner: socket.socket | None = None) -> NoReturn:
    """Serves a node until it closes the socket or says STOP; never returns. `owner`: a socket to
    the memory owner, for functions that want GPUs."""
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    warm_up(stop=lambda: bool(waiting.poll(0)))
    server = Server(loop, owner)
    loop.run_until_complete(loop.create_unix_connection(lambda: server, sock=connection))
    loop.run_forever()
    os._exit(1)  # user code has stopped the loop


def _redirect(output: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(output)
    # New ones: what the old ones have buffered is the fork server's.
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = open(
            descriptor, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
