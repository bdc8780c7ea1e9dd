from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsfn.functions.codec import Limits
from dsfn.functions.errors import DefinitionError
from dsfn.functions.function import function
from dsfn.functions.signature import signature_of
from dsfn.runtime.worker import frames
from dsfn.runtime.worker.batches import BatchRunner
from dsfn.runtime.worker.endpoint import Answer, Endpoint
from dsfn.runtime.worker.frames import FrameReader, Kind


def endpoint_of(
    handler: Callable[..., Any], weight: Callable[[Any], int] | None = None
) -> Endpoint:
    return Endpoint(
        handler=handler,
        signature=signature_of(handler),
        bundle=Path("/nowhere"),
        fetch=lambda ref: (b"", ""),
        limits=Limits(),
        max_result_bytes=1 << 20,
        memory_bytes=None,
        weight=weight,
    )


def run_calls(
    handler: Callable[..., Any],
    bodies: list[str],
    max_batch: int,
    weight: Callable[[Any], int] | None = None,
    sent: Callable[[bytes], object] = lambda _: None,
) -> dict[int, Any]:
    """What came of each call by its number: see `answers_to`."""
    answers = answers_to(handler, bodies, max_batch, weight, sent)
    return dict(outcome(answer.frame) for answer in answers)


def answers_to(
    handler: Callable[..., Any],
    bodies: list[str],
    max_batch: int,
    weight: Callable[[Any], int] | None = None,
    sent: Callable[[bytes], object] = lambda _: None,
) -> list[Answer]:
    """Starts all calls in one turn of the loop, and waits for their answers. `sent` is given what
    the runner says beside them."""
    answers: list[Answer] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def finish(answer: Answer) -> None:
            answers.append(answer)
            if len(answers) == len(bodies):
                done.set()

        runner = BatchRunner(endpoint_of(handler, weight), loop, sent, finish, max_batch)
        for number, body in enumerate(bodies, start=1):
            frame = frames.encode_call(number, 0, "application/json", "*/*", body.encode())
            (read,) = FrameReader().feed(frame)
            runner.start(number, frames.decode_call(read.payload))
        async with asyncio.timeout(10):
            await done.wait()

    asyncio.run(main())
    return answers


def outcome(frame: bytes) -> tuple[int, Any]:
    (read,) = FrameReader().feed(frame)
    if read.kind is Kind.ERROR:
        return read.call, frames.decode_error(read.payload)[1]["error"]
    return read.call, json.loads(bytes(frames.decode_result(read.payload).body))


def test_calls_that_wait_together_are_one_call_of_the_function() -> None:
    seen: list[list[int]] = []

    def double(numbers: list[int]) -> list[int]:
        seen.append(numbers)
        return [2 * n for n in numbers]

    bodies = ['{"numbers": [1]}', '{"numbers": [2, 3]}', '{"numbers": []}']
    assert run_calls(double, bodies, max_batch=10) == {1: [2], 2: [4, 6], 3: []}
    assert seen == [[1, 2, 3]]


def test_a_batch_has_at_most_its_number_of_items_but_never_splits_a_call() -> None:
    seen: list[int] = []

    def count(numbers: list[int]) -> list[int]:
        seen.append(len(numbers))
        return numbers

    bodies = ['{"numbers": [1, 2]}', '{"numbers": [3, 4]}', '{"numbers": [5, 6, 7, 8, 9]}']
    assert run_calls(count, bodies, max_batch=4)[3] == [5, 6, 7, 8, 9]
    assert seen == [4, 5]


def test_one_bad_call_fails_alone() -> None:
    def invert(numbers: list[int]) -> list[float]:
        return [1 / n for n in numbers]

    bodies = ['{"numbers": [1]}', '{"numbers": [0]}', '{"numbers": ["x"]}', '{"numbers": [2]}']
    assert run_calls(invert, bodies, max_batch=10) == {
        1: [1.0],
        2: "HandlerRaised",
        3: "InvalidInput",
        4: [0.5],
    }


def test_a_result_of_another_length_is_the_functions_fault() -> None:
    def lose(numbers: list[int]) -> list[int]:
        return numbers[1:]

    assert run_calls(lose, ['{"numbers": [1]}'], max_batch=10) == {1: "HandlerRaised"}


def batches(sent: list[bytes]) -> list[list[tuple[int, int]]]:
    """The calls and weights of each batch that was told of."""
    told = [frame for data in sent for frame in FrameReader().feed(data)]
    assert {frame.kind for frame in told} == {Kind.BATCH}
    return [list(frames.decode_batch(frame.payload)) for frame in told]


def test_each_batch_is_told_of_with_its_calls_before_it_runs() -> None:
    sent: list[bytes] = []
    told_before: list[int] = []

    def same(numbers: list[int]) -> list[int]:
        told_before.append(len(sent))
        return numbers

    bodies = ['{"numbers": [1, 2]}', '{"numbers": [3]}', '{"numbers": [4, 5, 6]}']
    run_calls(same, bodies, max_batch=3, sent=sent.append)
    assert batches(sent) == [[(1, 2), (2, 1)], [(3, 3)]]
    assert told_before == [1, 2]


def test_a_batch_is_divided_by_the_weights_that_its_function_gives() -> None:
    sent: list[bytes] = []

    def shout(texts: list[str]) -> list[str]:
        return [text.upper() for text in texts]

    bodies = ['{"texts": ["ab", "c"]}', '{"texts": []}', '{"texts": ["defgh"]}']
    assert run_calls(shout, bodies, 10, len, sent.append) == {1: ["AB", "C"], 2: [], 3: ["DEFGH"]}
    assert batches(sent) == [[(1, 3), (2, 0), (3, 5)]]


def test_a_batch_without_any_weight_is_divided_equally() -> None:
    sent: list[bytes] = []

    def same(texts: list[str]) -> list[str]:
        return texts

    run_calls(same, ['{"texts": [""]}', '{"texts": []}'], 10, len, sent.append)
    assert batches(sent) == [[(1, 1), (2, 1)]]


@pytest.mark.parametrize(
    "weight", [lambda _: -1, lambda _: 2**32 + 1, lambda _: 0.5, lambda _: 1 / 0]
)
def test_a_weight_that_makes_no_sense_fails_its_call(weight: Callable[[Any], int]) -> None:
    def same(numbers: list[int]) -> list[int]:
        return numbers

    bodies = ['{"numbers": [1]}', '{"numbers": []}']
    assert run_calls(same, bodies, 10, weight) == {1: "HandlerRaised", 2: []}


def test_the_busy_time_of_a_batch_is_its_calls_by_weight() -> None:
    def wait(seconds: list[float]) -> list[float]:
        time.sleep(sum(seconds))
        return seconds

    bodies = ['{"seconds": [0.02]}', '{"seconds": [0.08]}']
    answers = answers_to(wait, bodies, 10, lambda seconds: int(seconds * 100))
    reads = [frame for answer in answers for frame in FrameReader().feed(answer.frame)]
    light_us, heavy_us = [frames.decode_result(read.payload).busy_us for read in reads]
    assert light_us + heavy_us >= 100_000
    assert 2 * light_us < heavy_us  # what each takes beside the batch is its own


def test_weight_is_a_function_for_batches() -> None:
    with pytest.raises(DefinitionError, match="from one item"):

        @function(max_batch=4, weight=3)  # type: ignore[call-overload,untyped-decorator]
        def heavy(texts: list[str]) -> list[str]:
            return texts

    with pytest.raises(DefinitionError, match="max_batch"):

        @function(weight=len)
        def alone(texts: list[str]) -> list[str]:
            return texts


def test_only_a_plain_function_from_list_to_list_can_be_batched() -> None:
    @function(max_batch=4)
    def scalar(number: int) -> int:
        return number

    with pytest.raises(DefinitionError, match="one parameter that is a list"):
        scalar.interface()


def test_a_batched_function_takes_the_calls_of_the_next_batch_while_one_runs() -> None:
    @function(max_batch=16)
    def same(numbers: list[int]) -> list[int]:
        return numbers

    assert same.options.concurrency == 32
