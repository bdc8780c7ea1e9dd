"""Connections to a pod through the API server, as `kubectl port-forward` makes them.

They are taken at a Unix socket that nobody but this user can open. Not through the API server's
proxy for Services: that keeps the `Authorization` header to itself, in which API keys come.
"""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dsfn.functions.errors import ClusterError, NotFound
from dsfn.knative.cluster.connection import Cluster

_BACKLOG = 64
_PIECE_BYTES = 1 << 16


@contextmanager
def forwarded(cluster: Cluster, namespace: str, pod: str, port: int) -> Iterator[Path]:
    """The path of a socket that leads to a port of a pod, inside the block. Raises
    `ClusterError`, `NotFound`."""
    # Only here can it be told why there is no way; the first who connects gets this one.
    tunnels = [cluster.connect_to(namespace, pod, port)]
    with tempfile.TemporaryDirectory(prefix="dsfn-") as place:
        path = Path(place) / "socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(_BACKLOG)

            def connect() -> socket.socket:
                return tunnels.pop() if tunnels else cluster.connect_to(namespace, pod, port)

            threading.Thread(target=_take, args=(listener, connect), daemon=True).start()
            try:
                yield path
            finally:
                # Closing alone does not wake up who waits for a connection.
                listener.shutdown(socket.SHUT_RDWR)
                for each in tunnels:
                    each.close()


def _take(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    with suppress(OSError):
        while True:
            near, _ = listener.accept()
            try:
                far = connect()
            except (ClusterError, NotFound):
                near.close()  # which is all that whoever connected can be told
                continue
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Until one of both ends; then the other does, too."""
    with suppress(OSError):
        while piece := source.recv(_PIECE_BYTES):
            sink.sendall(piece)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
