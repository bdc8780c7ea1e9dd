"""An API server's part of `kubectl port-forward`: a port over a WebSocket.

Sources: RFC 6455, and the protocol `v4.channel.k8s.io`: each message begins with the number of its
channel, of which each port has two, for data and for errors; first of all either names the port.
"""

from __future__ import annotations

import socket
import struct
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha1
from http.server import BaseHTTPRequestHandler
from io import BufferedIOBase

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE = 2, 8


def forward(handler: BaseHTTPRequestHandler, port: int, to: int) -> None:
    """Answers a request for `port` of a pod with what listens at `to` on this machine."""
    accepted = sha1((handler.headers["Sec-WebSocket-Key"] + _GUID).encode()).digest()
    handler.send_response(101)
    for name, text in (
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", b64encode(accepted).decode()),
        ("Sec-WebSocket-Protocol", "v4.channel.k8s.io"),
    ):
        handler.send_header(name, text)
    handler.end_headers()
    handler.close_connection = True
    for channel in (0, 1):
        handler.wfile.write(_frame(bytes([channel]) + struct.pack("<H", port)))
    with socket.create_connection(("127.0.0.1", to)) as pod:
        answering = threading.Thread(target=_answer, args=(pod, handler.wfile))
        answering.start()
        for message in _messages(handler.rfile):
            pod.sendall(message[1:])
        pod.shutdown(socket.SHUT_RDWR)
        answering.join()


def _answer(pod: socket.socket, out: BufferedIOBase) -> None:
    with suppress(OSError):
        while piece := pod.recv(1 << 16):
            out.write(_frame(b"\0" + piece))
        out.write(bytes([0x80 | _CLOSE, 0]))


def _frame(message: bytes) -> bytes:
    head = bytes([0x80 | _BINARY])
    if len(message) < 126:
        return head + bytes([len(message)]) + message
    if len(message) < 1 << 16:
        return head + bytes([126]) + struct.pack(">H", len(message)) + message
    return head + bytes([127]) + struct.pack(">Q", len(message)) + message


def _messages(source: BufferedIOBase) -> Iterator[bytes]:
    """What a client sends, whose frames are masked, until it closes."""
    while len(head := source.read(2)) == 2 and head[0] & 0x0F != _CLOSE:
        size = head[1] & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", source.read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", source.read(8))
        mask, masked = source.read(4), source.read(size)
        yield bytes(byte ^ mask[place % 4] for place, byte in enumerate(masked))
