"""A proxy before PostgreSQL that loses the answer to a commit."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIECE_BYTES = 1 << 16


class ForgetfulProxy:
    """Forwards connections to `upstream_port`.

    Once `lose_next_commit` is set, the next COMMIT reaches the server, its answer comes back here,
    and then the connection ends on both sides: the client never learns what became of it.
    """

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lose_next_commit = False
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._upstream_port))
                for work in (self._to_server, self._to_client):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(_PIECE_BYTES):
                if self.lose_next_commit and b"COMMIT\0" in data:
                    self.lose_next_commit = False
                    # From here on, nothing gets back to the client.
                    client.shutdown(socket.SHUT_WR)
                    self.lost += 1
                server.sendall(data)
        _end(server)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(_PIECE_BYTES):
                client.sendall(data)
        _end(client)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def forgetful_proxy(upstream_port: int) -> Iterator[ForgetfulProxy]:
    """Runs a proxy."""
    proxy = ForgetfulProxy(upstream_port)
    yield proxy
    proxy.close()
