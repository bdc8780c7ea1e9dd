from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from worker_client import PATIENCE_S, Worker, write_app

from dsfn.runtime.worker import frames
from dsfn.runtime.worker.frames import STREAM_WINDOW_BYTES, Frame, Kind

Spawn = Callable[[], Worker]

STREAMS = """
    import time
    from collections.abc import AsyncIterator, Iterator

    closed = 0

    @dsfn.function(concurrency=4)
    def count(to: int) -> Iterator[int]:
        yield from range(to)

    @dsfn.function(concurrency=4)
    async def count_async(to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    @dsfn.function(concurrency=4)
    def flood(pieces: int) -> Iterator[dsfn.File]:
        global closed
        if pieces < 0:
            yield dsfn.File(str(closed).encode())
            return
        try:
            for piece in range(pieces):
                yield dsfn.File(bytes(1 << 16))
        finally:
            closed += 1

    @dsfn.function(concurrency=4)
    async def flood_async(pieces: int) -> AsyncIterator[dsfn.File]:
        global closed
        if pieces < 0:
            yield dsfn.File(str(closed).encode())
            return
        try:
            for piece in range(pieces):
                yield dsfn.File(bytes(1 << 16))
        finally:
            closed += 1

    @dsfn.function
    def break_off() -> Iterator[str]:
        yield "one"
        raise ValueError("no more")

    @dsfn.function
    def idle() -> Iterator[int]:
        for number in range(2):
            time.sleep(0.3)
            yield number
"""


def _rest(worker: Worker, number: int) -> tuple[list[bytes], Frame]:
    """Chunks, each acknowledged, and the frame that ends them."""
    chunks: list[bytes] = []
    while (frame := worker.receive()).kind is Kind.CHUNK:
        assert frame.call == number
        chunks.append(bytes(frame.payload))
        worker.send(frames.encode_ack(number, len(frame.payload)))
    return chunks, frame


def _head(worker: Worker) -> frames.ResultFrame:
    frame = worker.receive()
    assert frame.kind is Kind.RESULT
    return frames.decode_result(frame.payload)


@pytest.mark.parametrize("function", ["count", "count-async"])
def test_items_come_one_by_one_as_events(spawn: Spawn, tmp_path: Path, function: str) -> None:
    worker = spawn()
    worker.load(write_app(tmp_path, STREAMS), function, concurrency=4)
    number = worker.begin(b'{"to": 3}')
    head = _head(worker)
    assert head.streaming and head.content_type == "text/event-stream" and not bytes(head.body)
    chunks, end = _rest(worker, number)
    assert chunks == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]
    assert end.kind is Kind.END and frames.decode_end(end.payload) > 0


@pytest.mark.parametrize("function", ["flood", "flood-async"])
def test_a_slow_reader_holds_the_generator_back(
    spawn: Spawn, tmp_path: Path, function: str
) -> None:
    worker = spawn()
    worker.load(write_app(tmp_path, STREAMS), function, concurrency=4)
    worker.begin(b'{"pieces": 1000}')
    assert _head(worker).content_type == "application/octet-stream"
    received = 0
    while received < STREAM_WINDOW_BYTES:
        received += len(worker.receive().payload)
    with pytest.raises(TimeoutError):
        worker.receive(timeout_s=0.3)
    assert received == STREAM_WINDOW_BYTES
    worker.send(frames.encode_ack(1, 1 << 16))
    assert worker.receive().kind is Kind.CHUNK
    with pytest.raises(TimeoutError):
        worker.receive(timeout_s=0.3)
    worker.send(frames.encode_ack(1, received))
    assert worker.receive().kind is Kind.CHUNK


@pytest.mark.parametrize("function", ["flood", "flood-async"])
def test_a_cancelled_stream_closes_its_generator(
    spawn: Spawn, tmp_path: Path, function: str
) -> None:
    worker = spawn()
    worker.load(write_app(tmp_path, STREAMS), function, concurrency=4)
    number = worker.begin(b'{"pieces": 1000}')
    _head(worker)
    worker.send(frames.encode(Kind.CANCEL, number))
    chunks, error = [], worker.receive()
    while error.kind is Kind.CHUNK:
        chunks.append(error)
        error = worker.receive()
    assert error.kind is Kind.ERROR and len(chunks) < 1000
    assert frames.decode_error(error.payload)[1]["error"] == "CallCancelled"
    number = worker.begin(b'{"pieces": -1}')
    _head(worker)
    assert _rest(worker, number)[0] == [b"1"]


def test_a_generator_that_raises_ends_its_stream_with_an_error(
    spawn: Spawn, tmp_path: Path
) -> None:
    worker = spawn()
    worker.load(write_app(tmp_path, STREAMS), "break-off")
    number = worker.begin(b"")
    _head(worker)
    chunks, error = _rest(worker, number)
    assert chunks == [b'data: "one"\n\n']
    assert frames.decode_error(error.payload)[1]["message"] == "ValueError: no more"


def test_time_spent_waiting_for_the_reader_is_not_busy(spawn: Spawn, tmp_path: Path) -> None:
    worker = spawn()
    worker.load(write_app(tmp_path, STREAMS), "flood", concurrency=4)
    began_s = time.monotonic()
    number = worker.begin(b'{"pieces": 17}')
    time.sleep(0.5)
    _head(worker)
    _, end = _rest(worker, number)
    took_us = (time.monotonic() - began_s) * 1e6
    assert frames.decode_end(end.payload) < took_us - 300_000
    assert took_us < PATIENCE_S * 1e6


def test_a_thread_that_generates_leaves_the_loop_free(spawn: Spawn, tmp_path: Path) -> None:
    worker = spawn()
    worker.load(write_app(tmp_path, STREAMS), "idle")
    number = worker.begin(b"")
    _head(worker)
    worker.request(Kind.PARK)
    assert worker.receive().kind is Kind.PARKED
    assert _rest(worker, number)[0] == [b"data: 0\n\n", b"data: 1\n\n"]
