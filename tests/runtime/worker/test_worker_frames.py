from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsfn.functions.errors import HandlerRaised
from dsfn.runtime.worker import frames
from dsfn.runtime.worker.frames import FrameReader, Kind

bodies = st.binary(max_size=300)
numbers = st.integers(0, 2**64 - 1)


@given(st.lists(st.tuples(numbers, bodies), max_size=8), st.integers(1, 50))
def test_frames_survive_any_cutting_of_the_stream(
    sent: list[tuple[int, bytes]], piece_bytes: int
) -> None:
    stream = b"".join(frames.encode(Kind.CHUNK, number, body) for number, body in sent)
    reader = FrameReader()
    received = [
        (frame.call, bytes(frame.payload))
        for at in range(0, len(stream), piece_bytes)
        for frame in reader.feed(stream[at : at + piece_bytes])
    ]
    assert received == sent


@given(numbers, st.integers(0, 2**16 - 1), st.text(max_size=40), st.text(max_size=40), bodies)
def test_a_call_comes_out_as_it_went_in(
    number: int, threads: int, content_type: str, accept: str, body: bytes
) -> None:
    (frame,) = FrameReader().feed(frames.encode_call(number, threads, content_type, accept, body))
    call = frames.decode_call(frame.payload)
    assert (frame.kind, frame.call) == (Kind.CALL, number)
    assert (call.threads, call.content_type, call.accept) == (threads, content_type, accept)
    assert bytes(call.body) == body


@given(numbers, numbers, st.text(max_size=40), bodies, st.booleans())
def test_a_result_comes_out_as_it_went_in(
    busy_us: int, weights_us: int, content_type: str, body: bytes, streaming: bool
) -> None:
    (frame,) = FrameReader().feed(
        frames.encode_result(7, busy_us, content_type, body, streaming, weights_us)
    )
    result = frames.decode_result(frame.payload)
    assert (result.busy_us, result.streaming) == (busy_us, streaming)
    assert result.weights_us == weights_us
    assert (result.content_type, bytes(result.body)) == (content_type, body)


def test_an_error_with_fields_that_are_not_json_still_travels() -> None:
    error = HandlerRaised("it broke", where={1, 2}.__class__)
    (frame,) = FrameReader().feed(frames.encode_error(1, 5, error.to_document()))
    assert frames.decode_error(frame.payload)[1]["fields"] == {"where": "<class 'set'>"}


def test_a_frame_over_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="over the limit"):
        list(FrameReader().feed(b"\xff" * 13))


def test_ends_and_acknowledgements_carry_their_numbers() -> None:
    end, ack = FrameReader().feed(frames.encode_end(1, 2**40) + frames.encode_ack(1, 2**20))
    assert frames.decode_end(end.payload) == 2**40
    assert frames.decode_ack(ack.payload) == 2**20
