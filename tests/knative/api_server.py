"""What the stand-ins for an API server share: documents over HTTP, and a thread that serves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class DocumentHandler(BaseHTTPRequestHandler):
    """Answers with JSON, and says nothing of it."""

    def send_document(self, status: int, document: Any) -> None:
        """One answer."""
        self.send_bytes(status, json.dumps(document).encode())

    def send_bytes(self, status: int, body: bytes) -> None:
        """One answer that is no document."""
        with suppress(ConnectionError):  # whoever asked may be gone
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def serving(handler: type[DocumentHandler]) -> Iterator[int]:
    """The port at which requests are handled inside the block."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
