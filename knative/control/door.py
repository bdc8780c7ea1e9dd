"""`Passing` in a thread of its own: it goes on while this replica begins to lead, or ends to."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from dataclasses import field

import uvloop

from dsfn.functions.values import dataclass
from dsfn.knative.control.passing import Passing

# More than its event loop ever needs to come to something.
_TURN_S = 10.0


@dataclass(eq=False)
class Door:
    """Where connections come in that somebody else is to answer."""

    passing: Passing
    listener: socket.socket
    _loop: asyncio.AbstractEventLoop = field(default_factory=uvloop.new_event_loop)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._loop.run_forever, name="door", daemon=True)
        self._thread.start()

    def open(self, inner_url: str | None = None) -> None:
        """Takes connections. `inner_url`: see `Passing`."""
        self._do(self.passing.start(self.listener, inner_url))

    def shut(self) -> None:
        """Takes no more; what has come in goes on."""
        self._do(self.passing.stop())

    def close(self, patience_s: float) -> None:
        """Ends once all is quiet, after `patience_s` in any case."""
        self._do(self.passing.drain(patience_s), patience_s)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TURN_S)
        self._loop.close()

    def _do(self, work: Coroutine[None, None, None], takes_s: float = 0.0) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(takes_s + _TURN_S)
