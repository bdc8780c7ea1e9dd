"""What pods and the agent of their node say to each other.

A packet is a JSON object, a request has one reply, in order. On a Unix socket of SOCK_SEQPACKET
files come along with a reply as descriptors. On a TCP connection there are none, and each packet's
length goes before it, four bytes of it, the most significant one first.

    {"do": "hello", "pod": ID, "key": KEY}       {}            once, before all else
    {"do": "reserve", "row": ROW}                {}            durable
    {"do": "release", "call": ID}                {}
    {"do": "post", "rows": [ROW, ...]}           {"refused": [INDEX, ...]}     durable
    {"do": "has", "call": ID}                    {"is_there": BOOL}
    {"do": "snapshot", "digest": DIGEST, "again": BOOL}        {"files": [NAME, ...]}

An error is {"error": NAME, "message": TEXT, "fields": {...}}.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

# The kernel keeps a packet whole in the socket's buffer, of which it gives this much to anybody.
MAX_PACKET_BYTES = 160_000
MAX_DESCRIPTORS = 128
LENGTH = struct.Struct(">I")

Message = Mapping[str, Any]


class BadPacket(Exception):
    """What came is no message."""


def encode(message: Message) -> bytes:
    """A message as a packet. Raises `BadPacket` for one that is too large."""
    packet = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    if len(packet) > MAX_PACKET_BYTES:
        raise BadPacket(f"it has {len(packet)} bytes, and at most {MAX_PACKET_BYTES} are taken")
    return packet


def decode(packet: bytes) -> Message:
    """Reads back what `encode` gave. Raises `BadPacket`."""
    try:
        message = json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise BadPacket("it is no JSON") from error
    if not isinstance(message, dict):
        raise BadPacket("it is no object")
    return message


def packed(rows: Sequence[Message]) -> list[list[Message]]:
    """Rows in as few requests as packets have room for."""
    parts: list[list[Message]] = []
    room = 0
    for row in rows:
        size = len(encode(row)) + 1
        if size > room:
            parts.append([])
            room = MAX_PACKET_BYTES - 100
        parts[-1].append(row)
        room -= size
    return parts


def framed(packet: bytes) -> bytes:
    """A packet as it goes over TCP."""
    return LENGTH.pack(len(packet)) + packet
