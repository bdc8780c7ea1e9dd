"""How an application is served over HTTP, on a node and in a pod."""

from __future__ import annotations

import asyncio
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import Server

from dsfn.runtime.config import Limits
from dsfn.runtime.gateway.protocol import protocol_for

BACKLOG = 2048
KEEP_ALIVE_S = 75
# Between the end of the calls that were cut off and that of their connections.
CUT_OFF_GRACE_S = 5


def server_config(app: ASGIApp, limits: Limits, patience_s: float) -> Config:
    """uvicorn's configuration. `patience_s`: how long calls may go on once it is to stop."""
    return Config(
        app,
        loop="none",
        http=protocol_for(limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(patience_s + CUT_OFF_GRACE_S),
    )


class SignalledServer(Server, ABC):
    """uvicorn's server, told to stop by the signals of this process, which it does not repeat:
    what comes after it is stopped in order, too."""

    @abstractmethod
    def stop(self) -> None:
        """Begins to stop; asked at each signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Has SIGTERM and SIGINT stop it."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)


class _ServerBeside(Server):
    """uvicorn's server where signals are another's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves them alone."""
        yield


@asynccontextmanager
async def serving_beside(config: Config, listener: socket.socket) -> AsyncIterator[None]:
    """Serves at `listener`, which it closes, inside the block: what is under way at its end is
    answered first."""
    server = _ServerBeside(config)
    serving = asyncio.create_task(server.serve([listener]), name="serving-beside")
    try:
        yield
    finally:
        server.should_exit = True
        await serving
