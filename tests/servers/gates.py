"""A door to servers that a test can shut: what is under way is cut off, and nobody comes in."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_PIECE_BYTES = 1 << 16


@dataclass(eq=False)
class Gate:
    """Forwards each connection to the next of `upstream_ports` at which somebody listens, as a
    Service of Kubernetes would."""

    upstream_ports: Sequence[int]
    host: str = "127.0.0.1"
    is_shut: bool = False
    port: int = 0
    _next: int = 0
    _open: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    # Held while a way is chosen and gone.
    _ways: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"

    def shut(self) -> None:
        """Cuts off what is open, and what comes from now on."""
        self.is_shut = True
        self._cut_off()

    def open(self) -> None:
        """Lets all in again."""
        self.is_shut = False

    @contextmanager
    def without(self, upstream_port: int) -> Iterator[None]:
        """Inside the block it forwards nothing more to one of its ports."""
        ports = self.upstream_ports
        with self._ways:
            self.upstream_ports = [each for each in ports if each != upstream_port]
        try:
            yield
        finally:
            self.upstream_ports = ports

    def _cut_off(self) -> None:
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            upstream = self._connect()
            pair = {client, upstream}
            with upstream:
                with self._lock:
                    self._open |= pair
                try:
                    _both_ways(client, upstream)
                finally:
                    with self._lock:
                        self._open -= pair

    def _connect(self) -> socket.socket:
        with self._ways:
            for _ in self.upstream_ports:
                self._next += 1
                port = self.upstream_ports[self._next % len(self.upstream_ports)]
                with suppress(OSError):
                    if not self.is_shut:
                        return socket.create_connection(("127.0.0.1", port), timeout=5)
        raise ConnectionRefusedError


def _both_ways(client: socket.socket, upstream: socket.socket) -> None:
    while True:
        for side in select.select([client, upstream], [], [])[0]:
            data = side.recv(_PIECE_BYTES)
            if not data:
                return
            (upstream if side is client else client).sendall(data)


@contextmanager
def gate(*upstream_ports: int, host: str = "127.0.0.1") -> Iterator[Gate]:
    """An open gate, at an address of this machine."""
    found = Gate(upstream_ports, host)
    with socket.create_server((host, 0)) as listener:
        found.port = listener.getsockname()[1]
        thread = threading.Thread(target=found._accept, args=(listener,))
        thread.start()
        try:
            yield found
        finally:
            found.shut()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
