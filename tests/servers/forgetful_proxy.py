"""A proxy before PostgreSQL that loses the answer to a commit."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIECE_BYTES = 1 << 16


class ForgetfulProxy:
    """Forwards connections to `upstream_port`.

    Once `lose_next_commit` is set, the next COMMIT reaches the server, its answer comes back here,
    and then the connection ends: the client never learns what became of it.
    """

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lose_next_commit = False
        self.lost = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Takes no more connections; those that there are must have ended."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=30)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._forward, args=(client,)))
                self._threads[-1].start()

    def _forward(self, client: socket.socket) -> None:
        upstream = socket.create_connection(("127.0.0.1", self._upstream_port))
        with suppress(OSError), client, upstream:
            while True:
                for side in select.select([client, upstream], [], [])[0]:
                    data = side.recv(_PIECE_BYTES)
                    if not data:
                        return
                    if side is upstream:
                        client.sendall(data)
                        continue
                    upstream.sendall(data)
                    if self.lose_next_commit and b"COMMIT\0" in data:
                        self.lose_next_commit = False
                        upstream.recv(_PIECE_BYTES)
                        self.lost += 1
                        return


@contextmanager
def forgetful_proxy(upstream_port: int) -> Iterator[ForgetfulProxy]:
    """Runs a proxy."""
    proxy = ForgetfulProxy(upstream_port)
    try:
        yield proxy
    finally:
        proxy.close()
