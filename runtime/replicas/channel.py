"""One worker's socket, seen from the node: frames out, frames in, calls matched by number."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from dataclasses import field
from itertools import count
from typing import Any, cast

from dsfn.functions.errors import DsfnError, from_document
from dsfn.functions.values import dataclass
from dsfn.runtime.coalescing import CoalescingTransport
from dsfn.runtime.leases import Slot
from dsfn.runtime.worker import frames
from dsfn.runtime.worker.frames import Frame, FrameReader, Kind


@dataclass(eq=False, slots=True)
class Reply:
    """What came back for a call. `stream` is set instead of `body` for a streaming result;
    `busy_us` is then known when the stream has ended. `weights_us`: what it waited for weights
    that were still on their way."""

    content_type: str
    body: bytes
    busy_us: int
    weights_us: int = 0
    stream: AsyncGenerator[bytes, None] | None = None


@dataclass(eq=False, slots=True)
class PendingCall:
    """A call that the worker has not finished. `reply` is the caller's; `finished` runs once,
    when the worker is done with the call (`error` says how), whatever became of its caller.
    `unread`: the worker was gone before it had read the call, so nothing of it ran."""

    number: int
    slot: Slot
    reply: asyncio.Future[Reply]
    finished: Callable[[PendingCall], None]
    chunks: asyncio.Queue[bytes | DsfnError | None] | None = None
    streamed: Reply | None = None
    timer: asyncio.TimerHandle | None = None
    abandoned: bool = False
    unread: bool = False
    error: DsfnError | None = None

    def give_up(self, error: DsfnError) -> None:
        """Answers the caller with `error`, while the worker may still be at it."""
        if not self.reply.done():
            self.reply.set_exception(error)
        elif self.chunks is not None:
            self.chunks.put_nowait(error)


@dataclass(eq=False)
class Channel(asyncio.Protocol):
    """The connection to one worker. `lost` runs once when the worker's end has closed;
    `restoring` since the worker has come to the snapshot that it starts from."""

    lost: Callable[[], None] = lambda: None
    restoring: bool = False
    # The call whose frame was the last that was sent, and whether the worker left that unread.
    _last: int = 0
    _is_unread: bool = False
    pending: dict[int, PendingCall] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _reader: FrameReader = field(default_factory=FrameReader)
    _transport: CoalescingTransport | None = None
    _control: asyncio.Future[Any] | None = None
    _batch: list[Slot] = field(default_factory=list)

    @classmethod
    async def open(cls, connection: socket.socket) -> Channel:
        """A channel over the node's end of a worker's socket."""
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(cls, sock=connection)
        return channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of `asyncio.Protocol`."""
        self._transport = CoalescingTransport(cast(asyncio.Transport, transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of `asyncio.Protocol`. A Unix socket is reset when its other end is closed with
        something in it that was not read (unix(7)); frames are read in their order, so that the
        last one was not."""
        self._transport = None
        self._is_unread = isinstance(exc, ConnectionResetError | BrokenPipeError)
        self.lost()

    def data_received(self, data: bytes) -> None:
        """Part of `asyncio.Protocol`."""
        for frame in self._reader.feed(data):
            self._dispatch(frame)

    @property
    def is_open(self) -> bool:
        """Whether frames can still be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Closes the node's end; the worker ends itself when it sees that."""
        if self._transport is not None:
            self._transport.abort()

    def begin_call(
        self,
        threads: int,
        content_type: str,
        accept: str,
        body: bytes,
        slot: Slot,
        finished: Callable[[PendingCall], None],
    ) -> PendingCall:
        """Sends a call; its reply comes through the returned value."""
        reply = asyncio.get_running_loop().create_future()
        call = PendingCall(next(self._numbers), slot, reply, finished)
        self.pending[call.number] = call
        self._write(frames.encode_call(call.number, threads, content_type, accept, body))
        self._last = call.number
        return call

    def cancel_call(self, call: PendingCall) -> None:
        """Tells the worker that nobody waits for this call any more."""
        call.abandoned = True
        self._write(frames.encode(Kind.CANCEL, call.number))

    async def request(self, kind: Kind, document: dict[str, object], timeout_s: float) -> Any:
        """Sends a frame about the worker as a whole and waits for what it says.

        Raises the worker's error, `TimeoutError`, or `ConnectionError` when it has gone.
        """
        assert self._control is None, "one request at a time"
        if not self.is_open:
            raise ConnectionError("the worker has gone")
        self._control = asyncio.get_running_loop().create_future()
        try:
            self._write(frames.encode_json(kind, document))
            async with asyncio.timeout(timeout_s):
                return await self._control
        finally:
            self._control = None

    def send_stop(self) -> None:
        """Asks the worker to finish what runs and to end."""
        self._write(frames.encode(Kind.STOP, 0))

    def fail(self, error: DsfnError) -> None:
        """Ends every pending call with this error: the worker will not answer any more."""
        for call in list(self.pending.values()):
            call.unread = self._is_unread and call.number == self._last
            self._end(call, error)
        if self._control is not None and not self._control.done():
            self._control.set_exception(ConnectionError(error.message))

    def _write(self, data: bytes) -> None:
        self._last = 0
        if self._transport is None:
            return
        if len(self.pending) > 1:
            self._transport.write(data)
        else:
            # A lone call has nothing to share its write with, and somebody waits for it.
            self._transport.write_now(data)

    def _dispatch(self, frame: Frame) -> None:
        if frame.kind is Kind.RESULT:
            self._on_result(frame)
        elif frame.call:
            self._on_call_frame(frame)
        elif frame.kind is Kind.BATCH:
            self._on_batch(frame)
        elif frame.kind is Kind.RESTORING:
            self.restoring = True
        elif self._control is not None and not self._control.done():
            if frame.kind is Kind.FAILED:
                self._control.set_exception(from_document(frame.json()))
            else:
                self._control.set_result(frame.json() if len(frame.payload) else {})

    def _on_result(self, frame: Frame) -> None:
        call = self.pending.get(frame.call)
        if call is None:
            return
        result = frames.decode_result(frame.payload)
        if result.streaming:
            call.chunks = asyncio.Queue()
            reply = Reply(result.content_type, b"", 0, stream=self._stream(call))
            call.streamed = reply
        else:
            del self.pending[frame.call]
            body = bytes(result.body)
            reply = Reply(result.content_type, body, result.busy_us, result.weights_us)
        if not call.reply.done():
            call.reply.set_result(reply)
        if not result.streaming:
            call.finished(call)

    def _on_batch(self, frame: Frame) -> None:
        """The replica is at these calls now, whatever others it has been sent."""
        for slot in self._batch:
            slot.weigh(0)
        self._batch.clear()
        for number, weight in frames.decode_batch(frame.payload):
            call = self.pending.get(number)
            if call is not None:
                call.slot.weigh(weight)
                self._batch.append(call.slot)

    def _on_call_frame(self, frame: Frame) -> None:
        call = self.pending.get(frame.call)
        if call is None:
            return
        if frame.kind is Kind.CHUNK and call.chunks is not None:
            if call.abandoned:
                self._write(frames.encode_ack(call.number, len(frame.payload)))
            else:
                call.chunks.put_nowait(bytes(frame.payload))
        elif frame.kind is Kind.END:
            if call.streamed is not None:
                call.streamed.busy_us = frames.decode_end(frame.payload)
            self._end(call, None)
        elif frame.kind is Kind.ERROR:
            _, document = frames.decode_error(frame.payload)
            self._end(call, from_document(document))

    def _end(self, call: PendingCall, error: DsfnError | None) -> None:
        self.pending.pop(call.number, None)
        call.error = error
        if call.chunks is not None:
            call.chunks.put_nowait(error)
        elif error is not None and not call.reply.done():
            call.reply.set_exception(error)
        call.finished(call)

    async def _stream(self, call: PendingCall) -> AsyncGenerator[bytes, None]:
        assert call.chunks is not None
        while (item := await call.chunks.get()) is not None:
            if isinstance(item, DsfnError):
                raise item
            self._write(frames.encode_ack(call.number, len(item)))
            yield item
