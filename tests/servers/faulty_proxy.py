"""A proxy before an HTTP server that lets answers go wrong in the ways that networks have."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PIECE_BYTES = 1 << 16
_SLOW_DOWN = (
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_OWN_HEADERS = {"connection", "expect", "transfer-encoding", "date", "server", "keep-alive"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to an answer. `after_bytes` counts those of its body.

    refused: the server never sees the request, the client gets a 503. held: the server never
    sees it, and no answer comes. cut: the connection ends there. stalled: nothing more comes,
    and the connection stays. flipped: that byte is another. lost: the server does its work and
    no answer comes.
    """

    kind: str
    after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came. `range` is "" without one."""

    method: str
    path: str
    range: str


@dataclass(eq=False)
class FaultyProxy:
    """Forwards to `upstream_port`; the next requests that fit get the faults injected."""

    upstream_port: int
    bytes_per_s: int = 0
    seen: list[Seen] = field(default_factory=list)
    port: int = 0
    _faults: list[tuple[str, str, Fault]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def inject(self, fault: Fault, method: str, name: str, times: int = 1) -> None:
        """The next `times` requests of this method whose path has `name` in it go wrong."""
        with self._lock:
            self._faults += [(method, name, fault)] * times

    def heal(self) -> None:
        """All goes well from now on."""
        with self._lock:
            self._faults.clear()
        self.bytes_per_s = 0

    def requests(self, method: str, name: str = "") -> list[Seen]:
        """What came of this method, with `name` in its path."""
        return [seen for seen in self.seen if seen.method == method and name in seen.path]

    def take(self, seen: Seen) -> Fault | None:
        """Notes a request; the fault that it gets."""
        with self._lock:
            self.seen.append(seen)
            for index, (method, name, fault) in enumerate(self._faults):
                if method == seen.method and name in seen.path:
                    del self._faults[index]
                    return fault
        return None


@contextmanager
def faulty_proxy(upstream_port: int) -> Iterator[FaultyProxy]:
    """Runs a proxy inside the block."""
    proxy = FaultyProxy(upstream_port)

    class Handler(_Handler):
        plan = proxy

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # One thread for each connection; those of clients that stay connected must not be waited for.
    server.daemon_threads, server.block_on_close = True, False
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    plan: FaultyProxy

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: `FaultyProxy.seen` has it."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        seen = Seen(self.command, self.path, self.headers.get("Range", ""))
        fault = self.plan.take(seen)
        if fault is not None and fault.kind == "refused":
            self._answer(503, [("Content-Type", "application/xml")], _SLOW_DOWN, None)
            return
        if fault is not None and fault.kind == "held":
            self.plan.ended.wait(60)
            self._hang_up()
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.plan.upstream_port, timeout=30)
        try:
            # The signature covers the host that the client sees.
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _OWN_HEADERS}
            upstream.request(self.command, self.path, body=body, headers=headers)
            response = upstream.getresponse()
            data = response.read()
            self._answer(response.status, response.getheaders(), data, fault)
        finally:
            upstream.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815  # http.server's names

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, fault: Fault | None
    ) -> None:
        if fault is not None and fault.kind == "lost":
            self._hang_up()
            return
        self.send_response_only(status)
        kept = [(k, v) for k, v in headers if k.lower() not in _OWN_HEADERS]
        for name, value in kept:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self._send(body if self.command != "HEAD" else b"", fault)
        except OSError:
            self.close_connection = True  # the client has gone

    def _send(self, body: bytes, fault: Fault | None) -> None:
        if fault is None:
            self._pace(body)
            return
        at = fault.after_bytes
        if fault.kind == "flipped":
            self._pace(body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
            return
        self._pace(body[:at])
        if fault.kind == "stalled":
            self.plan.ended.wait(60)
        self._hang_up()

    def _pace(self, data: bytes) -> None:
        rate = self.plan.bytes_per_s
        step = max(1, rate // 20) if rate else _PIECE_BYTES
        for at in range(0, len(data), step):
            self.wfile.write(data[at : at + step])
            if rate and self.plan.ended.wait(step / rate):
                return

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
