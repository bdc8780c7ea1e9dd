"""Streams out of a call: chunks go only as far ahead as the reader has acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from dsfn.functions.codec import stream_content_type
from dsfn.runtime.worker import frames
from dsfn.runtime.worker.endpoint import Answer, Endpoint
from dsfn.runtime.worker.frames import STREAM_WINDOW_BYTES, CallFrame, Kind
from dsfn.runtime.worker.interrupts import Interrupted, ThreadInterrupt
from dsfn.runtime.worker.stopwatch import Stopwatch

Send = Callable[[bytes], object]
_END = object()


class ThreadStream:
    """A stream whose generator runs in a thread of its own."""

    def __init__(self, endpoint: Endpoint, number: int, send: Send) -> None:
        self.interrupt = ThreadInterrupt()
        self._endpoint = endpoint
        self._number = number
        self._send = send
        self._unread_bytes = 0

    def acknowledge(self, count: int) -> None:
        """The reader has taken `count` bytes."""
        with self.interrupt.changed:
            self._unread_bytes -= count
            self.interrupt.changed.notify_all()

    def run(self, call: CallFrame) -> Answer:
        """Runs the call to its end, in this thread."""
        watch = self._endpoint.stopwatch()
        try:
            try:
                self.interrupt.begin()
                arguments = self._endpoint.decode(call)
                watch.computes()
                self.interrupt.arm()
                items = iter(self._endpoint.handler(**arguments))
            finally:
                self.interrupt.disarm()
            self._send(_head(self._endpoint, self._number))
            try:
                self._pass_on(items, watch)
            finally:
                if close := getattr(items, "close", None):
                    close()
        except BaseException as error:  # noqa: BLE001  as in Endpoint.run
            return self._endpoint.fault(self._number, watch, error)
        return Answer(frames.encode_end(self._number, watch.read_us()))

    def _pass_on(self, items: Iterator[Any], watch: Stopwatch) -> None:
        while True:
            try:
                self.interrupt.arm()
                item = next(items, _END)
            finally:
                self.interrupt.disarm()
            watch.computed()
            if item is _END:
                return
            chunk = self._endpoint.encode_item(item)
            with watch.paused():
                self._take_room(len(chunk))
            self._send(frames.encode(Kind.CHUNK, self._number, chunk))
            watch.computes()

    def _take_room(self, count: int) -> None:
        with self.interrupt.changed:
            while self._unread_bytes >= STREAM_WINDOW_BYTES and not self.interrupt.asked:
                self.interrupt.changed.wait()
            if self.interrupt.asked:
                raise Interrupted
            self._unread_bytes += count


class TaskStream:
    """A stream whose asynchronous generator runs in a task."""

    def __init__(self, endpoint: Endpoint, number: int, send: Send) -> None:
        self._endpoint = endpoint
        self._number = number
        self._send = send
        self._unread_bytes = 0
        self._has_room = asyncio.Event()
        self._has_room.set()

    def acknowledge(self, count: int) -> None:
        """The reader has taken `count` bytes."""
        self._unread_bytes -= count
        if self._unread_bytes < STREAM_WINDOW_BYTES:
            self._has_room.set()

    async def pass_on(self, items: AsyncIterator[Any], watch: Stopwatch) -> Answer:
        """Sends all items, and closes them whatever happens."""
        self._send(_head(self._endpoint, self._number))
        try:
            async for item in items:
                watch.computed()
                chunk = self._endpoint.encode_item(item)
                with watch.paused():
                    await self._has_room.wait()
                self._unread_bytes += len(chunk)
                if self._unread_bytes >= STREAM_WINDOW_BYTES:
                    self._has_room.clear()
                self._send(frames.encode(Kind.CHUNK, self._number, chunk))
                watch.computes()
            watch.computed()
        finally:
            if close := getattr(items, "aclose", None):
                await close()
        return Answer(frames.encode_end(self._number, watch.read_us()))


def _head(endpoint: Endpoint, number: int) -> bytes:
    content_type = stream_content_type(endpoint.signature.result.kind)
    return frames.encode_result(number, 0, content_type, b"", streaming=True)
