"""A bare HTTP server in Python, as a Knative Service without dsfn has it: to measure against."""

from __future__ import annotations

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Greets."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment: two are 40 ms apart

    def do_GET(self) -> None:
        """Any path."""
        body = b"hello\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing."""


# Process 1 has no default handler, and would outlive its grace period.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
