"""The wire between a node and a worker: length-prefixed frames over one stream socket.

    frame   = length:u32  kind:u8  call:u64  payload        (big-endian; length = 9 + payload)
    CALL    = threads:u16  type_len:u16  accept_len:u16  content_type  accept  body
    RESULT  = busy_us:u64  weights_us:u64  flags:u8  type_len:u16  content_type  body
    CHUNK   = bytes of a stream         END = busy_us:u64        ACK = count:u32 (bytes consumed)
    ERROR   = busy_us:u64  JSON document of the error
    BATCH   = (call:u64  weight:u64) for each call of it
    others  = JSON document

`call` numbers the calls of one connection; it is 0 in frames that concern the
worker as a whole. A stream is RESULT with the STREAM flag and an empty body,
CHUNKs, then END or ERROR; its sender stops while `STREAM_WINDOW_BYTES` are not
acknowledged, so a slow reader fills no memory. `weights_us`: what the call waited for weights
that were still on their way.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import Any

from dsfn.functions.values import dataclass

MAX_FRAME_BYTES = 1 << 30
STREAM_WINDOW_BYTES = 1 << 20
STREAM_FLAG = 1

_HEAD = struct.Struct("!IBQ")
_CALL = struct.Struct("!HHH")
_RESULT = struct.Struct("!QQBH")
_BUSY = struct.Struct("!Q")
_COUNT = struct.Struct("!I")
_MEMBER = struct.Struct("!QQ")
_HEAD_AFTER_LENGTH = _HEAD.size - 4


class Kind(IntEnum):
    """What a frame is. The first group goes to the worker, the second comes from it."""

    LOAD = 1  # become a replica: see `dsfn.runtime.worker.messages.Load`
    JOB = 2  # do one thing and end: see `dsfn.runtime.worker.messages`
    CALL = 3
    CANCEL = 4
    ACK = 5
    PARK = 6
    UNPARK = 7
    STOP = 8  # finish what runs, then exit
    WARM = 9  # make a context on a GPU, before LOAD: `messages.Warm`
    CHECK = 10  # compare the weights in memory with what was captured; no call may run

    READY = 32  # LOAD is done: `messages.Ready`
    FAILED = 33  # LOAD, JOB, PARK, UNPARK or CHECK failed: an error document
    DONE = 34  # JOB is done: its result
    RESULT = 35
    CHUNK = 36
    END = 37
    ERROR = 38
    PARKED = 39
    UNPARKED = 40  # {"restore_us": int, "parts": {str: int}}, as `messages.Ready`
    WARMED = 41
    BATCH = 42  # these calls are run as one now; what comes next waits
    RESTORING = 43  # LOAD has come to the snapshot; what ends the process now is the restore
    CHECKED = 44  # `messages.Checked`


@dataclass(frozen=True, slots=True)
class Frame:
    """One received frame."""

    kind: Kind
    call: int
    payload: memoryview

    def json(self) -> Any:
        """The payload as a JSON document."""
        return json.loads(bytes(self.payload))


@dataclass(frozen=True, slots=True)
class CallFrame:
    """A decoded CALL. `threads`: how many CPU threads this call may use."""

    threads: int
    content_type: str
    accept: str
    body: memoryview


@dataclass(frozen=True, slots=True)
class ResultFrame:
    """A decoded RESULT."""

    busy_us: int
    weights_us: int
    streaming: bool
    content_type: str
    body: memoryview


def encode(kind: Kind, call: int, payload: bytes = b"") -> bytes:
    """One frame. Payloads over `MAX_FRAME_BYTES` are a bug of the caller's."""
    return _join(kind, call, payload)


def encode_json(kind: Kind, document: Mapping[str, object], call: int = 0) -> bytes:
    """A frame with a JSON payload."""
    return _join(kind, call, _json(document))


def encode_call(call: int, threads: int, content_type: str, accept: str, body: bytes) -> bytes:
    """A CALL frame."""
    head_type, head_accept = content_type.encode(), accept.encode()
    head = _CALL.pack(threads, len(head_type), len(head_accept))
    return _join(Kind.CALL, call, head, head_type, head_accept, body)


def decode_call(payload: memoryview) -> CallFrame:
    """Reads a CALL frame's payload."""
    threads, type_len, accept_len = _CALL.unpack_from(payload)
    accept_at = _CALL.size + type_len
    body_at = accept_at + accept_len
    return CallFrame(
        threads=threads,
        content_type=str(payload[_CALL.size : accept_at], "utf-8"),
        accept=str(payload[accept_at:body_at], "utf-8"),
        body=payload[body_at:],
    )


def encode_result(
    call: int,
    busy_us: int,
    content_type: str,
    body: bytes,
    streaming: bool = False,
    weights_us: int = 0,
) -> bytes:
    """A RESULT frame."""
    head_type = content_type.encode()
    head = _RESULT.pack(busy_us, weights_us, STREAM_FLAG if streaming else 0, len(head_type))
    return _join(Kind.RESULT, call, head, head_type, body)


def decode_result(payload: memoryview) -> ResultFrame:
    """Reads a RESULT frame's payload."""
    busy_us, weights_us, flags, type_len = _RESULT.unpack_from(payload)
    body_at = _RESULT.size + type_len
    return ResultFrame(
        busy_us=busy_us,
        weights_us=weights_us,
        streaming=bool(flags & STREAM_FLAG),
        content_type=str(payload[_RESULT.size : body_at], "utf-8"),
        body=payload[body_at:],
    )


def encode_end(call: int, busy_us: int) -> bytes:
    """An END frame."""
    return encode(Kind.END, call, _BUSY.pack(busy_us))


def decode_end(payload: memoryview) -> int:
    """The `busy_us` of an END frame."""
    busy_us: int = _BUSY.unpack(payload)[0]
    return busy_us


def encode_error(call: int, busy_us: int, document: Mapping[str, object]) -> bytes:
    """An ERROR frame."""
    return _join(Kind.ERROR, call, _BUSY.pack(busy_us), _json(document))


def decode_error(payload: memoryview) -> tuple[int, dict[str, Any]]:
    """The `busy_us` and error document of an ERROR frame."""
    return _BUSY.unpack_from(payload)[0], json.loads(bytes(payload[_BUSY.size :]))


def encode_batch(members: Iterable[tuple[int, int]]) -> bytes:
    """A BATCH frame: the numbers of its calls with their weights."""
    return _join(Kind.BATCH, 0, *(_MEMBER.pack(*member) for member in members))


def decode_batch(payload: memoryview) -> Iterator[tuple[int, int]]:
    """The calls and weights of a BATCH frame."""
    return _MEMBER.iter_unpack(payload)


def encode_ack(call: int, count: int) -> bytes:
    """An ACK frame."""
    return encode(Kind.ACK, call, _COUNT.pack(count))


def decode_ack(payload: memoryview) -> int:
    """The byte count of an ACK frame."""
    count: int = _COUNT.unpack(payload)[0]
    return count


def _join(kind: Kind, call: int, *parts: bytes) -> bytes:
    """A frame, its payload in parts so that a large one is copied once."""
    length = _HEAD_AFTER_LENGTH + sum(map(len, parts))
    assert length <= MAX_FRAME_BYTES
    return b"".join((_HEAD.pack(length, kind, call), *parts))


def _json(document: Mapping[str, object]) -> bytes:
    # An error's fields are whatever its raiser, who may be a handler, has put there.
    return json.dumps(document, separators=(",", ":"), default=str).encode()


class FrameReader:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Takes received bytes and yields the frames that are complete.

        Raises `ValueError` when the peer announces a frame over the limit.
        """
        if self._buffer:
            self._buffer += data
            data = bytes(self._buffer) if self._complete() else b""
            if not data:
                return
            self._buffer.clear()
        view, at = memoryview(data), 0
        while len(data) - at >= _HEAD.size:
            length, kind, call = _HEAD.unpack_from(data, at)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"frame of {length} bytes is over the limit")
            end = at + 4 + length
            if end > len(data):
                break
            yield Frame(Kind(kind), call, view[at + _HEAD.size : end])
            at = end
        self._buffer += view[at:]

    def _complete(self) -> bool:
        if len(self._buffer) < _HEAD.size:
            return False
        length: int = _HEAD.unpack_from(self._buffer)[0]
        return length > MAX_FRAME_BYTES or len(self._buffer) >= 4 + length
