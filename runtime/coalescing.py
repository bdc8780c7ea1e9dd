"""Fewer, larger writes: what one turn of the event loop writes leaves in one system call.

A write to a socket wakes its reader, which costs more than all of the node's own
work on a small call. Measured with 32 clients: system calls that write were 42 %
of the node's time.
"""

from __future__ import annotations

import asyncio
from typing import Any


class CoalescingTransport:
    """A transport whose writes of one turn of the loop are sent together, in order.

    Everything but `write` and `close` is the wrapped transport's own.
    """

    __slots__ = ("_loop", "_pending", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._pending: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Sends `data` at the end of this turn."""
        if not self._pending:
            self._loop.call_soon(self.flush)
        self._pending.append(data)

    def write_now(self, data: bytes) -> None:
        """Sends what is pending, and `data` with it."""
        self._pending.append(data)
        self.flush()

    def flush(self) -> None:
        """Sends what is pending now."""
        if self._pending:
            data, self._pending = self._pending, []
            self._transport.write(data[0] if len(data) == 1 else b"".join(data))

    def close(self) -> None:
        """Closes the transport once everything is sent."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
