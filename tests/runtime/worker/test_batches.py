from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsfn.functions.codec import Limits
from dsfn.functions.errors import DefinitionError
from dsfn.functions.function import function
from dsfn.functions.signature import signature_of
from dsfn.runtime.worker import frames
from dsfn.runtime.worker.batches import BatchRunner, split
from dsfn.runtime.worker.endpoint import Answer, Endpoint
from dsfn.runtime.worker.frames import FrameReader, Kind


def endpoint_of(handler: Callable[..., Any]) -> Endpoint:
    return Endpoint(
        handler=handler,
        signature=signature_of(handler),
        bundle=Path("/nowhere"),
        fetch=lambda ref: (b"", ""),
        limits=Limits(),
        max_result_bytes=1 << 20,
        memory_bytes=None,
    )


def run_calls(handler: Callable[..., Any], bodies: list[str], max_batch: int) -> dict[int, Any]:
    """Starts all calls in one turn of the loop; what came of each by its number."""
    answers: list[Answer] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def finish(answer: Answer) -> None:
            answers.append(answer)
            if len(answers) == len(bodies):
                done.set()

        runner = BatchRunner(endpoint_of(handler), loop, lambda _: None, finish, max_batch)
        for number, body in enumerate(bodies, start=1):
            frame = frames.encode_call(number, 0, "application/json", "*/*", body.encode())
            (read,) = FrameReader().feed(frame)
            runner.start(number, frames.decode_call(read.payload))
        await asyncio.wait_for(done.wait(), 10)

    asyncio.run(main())
    return dict(outcome(answer.frame) for answer in answers)


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


@given(total=st.integers(0, 10**12), weights=st.lists(st.integers(0, 1000), min_size=1))
def test_the_shares_of_a_batch_add_up_to_it_and_are_in_proportion(
    total: int, weights: list[int]
) -> None:
    shares = split(total, weights)
    assert sum(shares) == total
    whole = sum(weights)
    for share, weight in zip(shares, weights, strict=True):
        if whole:
            assert abs(share * whole - total * weight) < whole


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
