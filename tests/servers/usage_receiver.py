"""A receiver of usage over HTTP that can be as bad as receivers are."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Document = dict[str, Any]


@dataclass(eq=False)
class Receiver:
    """What came, and how the next requests are met.

    faults, one for each request: "500" and other statuses: refused. "cut": the connection ends
    before the answer, and nothing is kept. "lost": it ends before the answer, and all is kept.
    "slow": half a second passes first. "hung": no answer ever. After the last all goes well,
    unless `always` is set, which is for every request.
    """

    faults: list[str] = field(default_factory=list)
    always: str = ""
    retry_after: str = ""
    max_events: int = 10**9
    poison: str = ""
    requests: list[list[Document]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    taken: list[Document] = field(default_factory=list)
    port: int = 0
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/api/v1/events"

    @property
    def ids(self) -> list[str]:
        """Of what was taken, repeats included."""
        return [event["id"] for event in self.taken]

    def meet(self, handler: BaseHTTPRequestHandler, stopped: threading.Event) -> None:
        """One request."""
        length = int(handler.headers["content-length"])
        body = json.loads(handler.rfile.read(length))
        events = body if isinstance(body, list) else [body]
        self.requests.append(events)
        self.headers.append({name.lower(): value for name, value in handler.headers.items()})
        fault = self.always or (self.faults.pop(0) if self.faults else "")
        if fault == "slow":
            time.sleep(0.5)
        if fault == "hung":
            stopped.wait()
        if fault in ("cut", "hung"):
            handler.close_connection = True
            return
        if fault.isdigit():
            self._answer(handler, int(fault))
        elif len(events) > self.max_events:
            self._answer(handler, 413)
        elif any(event["id"] == self.poison for event in events):
            self._answer(handler, 400)
        else:
            self.taken += events
            if fault == "lost":
                handler.close_connection = True
            else:
                self._answer(handler, 204)

    def _answer(self, handler: BaseHTTPRequestHandler, status: int) -> None:
        handler.send_response(status)
        if self.retry_after:
            handler.send_header("Retry-After", self.retry_after)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@contextmanager
def receiving(receiver: Receiver) -> Iterator[Receiver]:
    """Serves it, at the port that it has, or at any."""
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            receiver.meet(self, stopped)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: tests look at what came."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Nothing: the other side was killed."""

    server = Server((receiver.host, receiver.port), Handler)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
