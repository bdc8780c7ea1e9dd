"""What a body must not do while it is traced, and how it is told so."""

from __future__ import annotations

import inspect
import json
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from album import classify, count, has_speech, keep, thumbnail, transcribe

import dsfn
from dsfn import Audio, Image, Json
from dsfn.functions.errors import DefinitionError
from dsfn.functions.workflow.dag import MAX_DEPTH, MAX_STEPS

kept: list[Any] = []


def truth(n: Json, photo: Image) -> Json:
    if has_speech(n):  # here
        return 1
    return 2


def negation(n: Json, photo: Image) -> Json:
    return not n  # here


def conjunction(n: Json, photo: Image) -> Json:
    return n and 3  # here


def loop(n: Json, photo: Image) -> Json:
    return [count(item) for item in n]  # here


def unpacking(n: Json, photo: Image) -> Json:
    first, _ = n  # here
    return first


def length(n: Json, photo: Image) -> Json:
    return len(n)  # here


def equality(n: Json, photo: Image) -> Json:
    return dsfn.when(n == 3, 1, 2)  # here


def order(n: Json, photo: Image) -> Json:
    return max(n, n)  # here


def membership(n: Json, photo: Image) -> Json:
    return "a" in n  # here


def member_of_list(n: Json, photo: Image) -> Json:
    return n in [1, 2]  # here


def arithmetic(n: Json, photo: Image) -> Json:
    return count(n + 1)  # here


def reflected(n: Json, photo: Image) -> Json:
    return count(1 - n)  # here


def in_place(n: Json, photo: Image) -> Json:
    n += 1  # here
    return n


def as_index(n: Json, photo: Image) -> Json:
    return [1, 2, 3][n]  # here


def symbol_index(n: Json, photo: Image) -> Json:
    return n[n]  # here


def from_the_end(n: Json, photo: Image) -> Json:
    return n[-1]  # here


def a_slice(n: Json, photo: Image) -> Json:
    return n[1:2]  # here


def as_range(n: Json, photo: Image) -> Json:
    return [count(i) for i in range(n)]  # here


def as_text(n: Json, photo: Image) -> Json:
    return str(n)  # here


def formatted(n: Json, photo: Image) -> Json:
    return f"{n}!"  # here


def percent(n: Json, photo: Image) -> Json:
    return "%s" % n  # noqa: UP031  # here


def joined(n: Json, photo: Image) -> Json:
    return "".join(["a", n])  # here


def as_key(n: Json, photo: Image) -> Json:
    return {n: 1}  # here


def assigned(n: Json, photo: Image) -> Json:
    n["a"] = 1  # here
    return n


def attribute_set(n: Json, photo: Image) -> Json:
    n.a = 1  # here
    return n


def method(n: Json, photo: Image) -> Json:
    return n.upper()  # here


def of_a_part(n: Json, photo: Image) -> Json:
    return photo.data  # here


def key_of_a_part(n: Json, photo: Image) -> Json:
    return thumbnail(photo)["width"]  # here


def a_type(n: Json, photo: Image) -> Json:
    return isinstance(photo, Image)  # here


def dumped(n: Json, photo: Image) -> Json:
    return json.dumps({"n": n})  # here


def awaited(n: Json, photo: Image) -> Json:
    return transcribe(n).__await__()  # here


def wrong_name(n: Json, photo: Image) -> Json:
    return classify(imge=photo)  # here


def missing(n: Json, photo: Image) -> Json:
    return classify()  # here


def too_many(n: Json, photo: Image) -> Json:
    return classify(photo, 1, 2)  # here


def leaked_from_branch(n: Json, photo: Image) -> Json:
    made: list[Any] = []
    dsfn.when(n, lambda: made.append(keep(n)), None)
    return count(made[0])  # here


def other_branch(n: Json, photo: Image) -> Json:
    made: list[Any] = []
    return dsfn.when(n, lambda: made.append(keep(n)), lambda: count(made[0]))  # here


def leaked_from_map(n: Json, photo: Image) -> Json:
    made: list[Any] = []
    dsfn.map(lambda item: made.append(item), n)
    return count(made[0])  # here


def another_trace(n: Json, photo: Image) -> Json:
    return count(kept[0])  # here


def raises(n: Json, photo: Image) -> Json:
    return {}["absent"]  # here


def exits(n: Json, photo: Image) -> Json:
    raise SystemExit(3)  # here


def swallows(n: Json, photo: Image) -> Json:
    try:
        if n:  # here
            return 1
    except DefinitionError:
        return 2
    return 3


def wrong_setting(n: Json, photo: Image) -> Json:
    return count.step(retries=-1)(n)  # here


def map_over_a_part(n: Json, photo: Image) -> Json:
    return dsfn.map(classify, photo)  # here


def map_over_a_number(n: Json, photo: Image) -> Json:
    return dsfn.map(count, 3)  # here


def part_as_condition(n: Json, photo: Image) -> Json:
    return dsfn.when(photo, 1, 2)  # here


def part_as_constant(n: Json, photo: Image) -> Json:
    return classify(Image(b"abc"))  # here


def not_a_number(n: Json, photo: Image) -> Json:
    return count(float("nan"))  # here


def no_json(n: Json, photo: Image) -> Json:
    return count(threading.Lock())  # here


def key_of_a_constant(n: Json, photo: Image) -> Json:
    return dsfn.deployed("f")({1: n})  # here


def endless(n: Json, photo: Image) -> Json:
    while True:
        n = count(n)  # here


def deep(n: Json, photo: Image, depth: int = 0) -> Json:
    return dsfn.map(lambda item: deep(item, photo), n)  # here


def fallback_of_a_symbol(n: Json, photo: Image) -> Json:
    return count.step(fallback=n)(n)  # here


def unequal(n: Json, photo: Image) -> Json:
    return sorted([n, random.random()])  # here


def no_duration(n: Json) -> Json:
    return count.step(timeout="soon")(n)  # here


@dsfn.workflow
def inner(n: int) -> list[int]:
    return count(n)


def step_of_a_workflow(n: int) -> list[int]:
    return inner.step(retries=2)(n)  # here


REFUSED: list[tuple[Callable[..., Any], str]] = [
    (truth, "the result of step 'has-speech' cannot be tested for truth.*dsfn.when"),
    (negation, "input 'n' cannot be tested for truth"),
    (conjunction, "input 'n' cannot be tested for truth"),
    (loop, "input 'n' cannot be gone through or unpacked.*dsfn.map"),
    (unpacking, "input 'n' cannot be gone through or unpacked"),
    (length, "input 'n' has no length yet.*dsfn.map"),
    (equality, "input 'n' cannot be compared.*dsfn.when"),
    (order, "input 'n' cannot be compared"),
    (membership, "input 'n' cannot be searched"),
    (member_of_list, "input 'n' cannot be compared"),
    (arithmetic, "input 'n' cannot be computed with.*in a function"),
    (reflected, "input 'n' cannot be computed with"),
    (in_place, "input 'n' cannot be computed with"),
    (as_index, "input 'n' cannot be computed with"),
    (symbol_index, "input 'n' cannot be indexed by a value of the workflow"),
    (from_the_end, "input 'n' cannot be indexed from its end"),
    (a_slice, "input 'n' cannot be indexed by a slice"),
    (as_range, "input 'n' cannot be computed with"),
    (as_text, "input 'n' cannot be made into text"),
    (formatted, "input 'n' cannot be made into text"),
    (percent, "input 'n' cannot be made into text"),
    (joined, "the body raised TypeError: sequence item 1: expected str"),
    (as_key, "input 'n' cannot be in a set or be a dictionary's key"),
    (assigned, "input 'n' cannot be changed"),
    (attribute_set, "input 'n' cannot be changed"),
    (method, ".upper of input 'n' cannot be called"),
    (of_a_part, "input 'photo' is of kind image, and .data would look into it"),
    (key_of_a_part, "the result of step 'thumbnail' is of kind image"),
    (a_type, "input 'photo' has no type that could be asked for"),
    (dumped, "input 'n' has no type that could be asked for"),
    (awaited, "cannot be awaited"),
    (wrong_name, "'classify' cannot be called like this: missing a required argument: 'image'"),
    (missing, "missing a required argument: 'image'"),
    (too_many, "too many positional arguments"),
    (leaked_from_branch, "result of step 'keep' was made in a branch of 'when' and is not there"),
    (other_branch, "result of step 'keep' was made in a branch of 'when' and is not there"),
    (leaked_from_map, "an item of map 'map' was made in a map of 'map' and is not there"),
    (another_trace, "input 'n' is of another workflow, or was kept from another trace"),
    (raises, "the body raised KeyError: 'absent'"),
    (exits, "the body raised SystemExit: 3"),
    (swallows, "input 'n' cannot be tested for truth"),
    (wrong_setting, "retries must be a whole number from 0 to 100"),
    (map_over_a_part, "input 'photo' is of kind image, not a list"),
    (map_over_a_number, "a map goes over lists, not over int"),
    (part_as_condition, "input 'photo' is of kind image; a condition is JSON or text"),
    (part_as_constant, "argument 'image' of step 'classify' holds Image.*make it an input"),
    (not_a_number, "argument 'to' of step 'count' holds NaN or infinity"),
    (no_json, "argument 'to' of step 'count' is of type lock, which has no JSON form"),
    (key_of_a_constant, "argument '0' of step 'f' has a key that is no text"),
    (endless, f"a workflow has at most {MAX_STEPS} steps.*dsfn.map"),
    (deep, f"maps and branches are nested deeper than {MAX_DEPTH}"),
    (fallback_of_a_symbol, "A fallback is a deployed function or a constant value"),
    (unequal, "input 'n' cannot be compared"),
    (no_duration, "timeout 'soon' is not a duration"),
    (step_of_a_workflow, "'inner' is a workflow; retries, timeout and the like are set on"),
]


def line_of(body: Callable[..., Any]) -> tuple[int, str]:
    """The line that is marked in a body, and what is written in it."""
    lines, first = inspect.getsourcelines(body)
    (index,) = (i for i, line in enumerate(lines) if "# here" in line)
    return first + index, lines[index].strip()


@pytest.mark.parametrize(("body", "problem"), REFUSED, ids=[b.__name__ for b, _ in REFUSED])
def test_a_body_that_needs_a_value_is_told_where_and_what_to_do(
    body: Callable[..., Any], problem: str
) -> None:
    @dsfn.workflow
    def other(n: Json) -> Json:
        kept[:] = [n]
        return n

    other.trace()
    with pytest.raises(DefinitionError, match=problem) as refused:
        dsfn.workflow(body).trace()
    number, text = line_of(body)
    name = body.__name__.replace("_", "-")
    place = f"In workflow '{name}' ({Path(__file__).name}, line {number}, `{text[:40]}"
    assert refused.value.message.startswith(place)
    assert refused.value.fields["line"] == number


@pytest.mark.parametrize("called", [count, count.step(retries=1), inner])
def test_a_call_in_a_thread_is_refused_and_not_lost(called: Callable[..., Any]) -> None:
    def threaded(n: int) -> Json:
        with ThreadPoolExecutor(1) as threads:
            return list(threads.map(called, [n]))

    with pytest.raises(DefinitionError, match="input 'n' is given to a function outside"):
        dsfn.workflow(threaded).trace()


def test_what_is_wrong_with_the_result_names_the_body() -> None:
    def flow(n: Json) -> Json:
        made: list[Any] = []
        dsfn.map(lambda item: made.append(count(item)), n)
        return made[0]

    with pytest.raises(DefinitionError, match="was made in a map") as refused:
        dsfn.workflow(flow).trace()
    assert refused.value.fields["line"] == flow.__code__.co_firstlineno


def test_a_workflow_that_calls_itself_is_refused() -> None:
    @dsfn.workflow
    def one(n: Json) -> Json:
        return two(n)

    @dsfn.workflow
    def two(n: Json) -> Json:
        return dsfn.map(one, n)

    @dsfn.workflow
    def itself(n: Json) -> Json:
        return itself(n)

    with pytest.raises(DefinitionError, match=r"must not call itself \(one -> two -> one\)"):
        one.trace()
    with pytest.raises(DefinitionError, match=r"must not call itself \(itself -> itself\)"):
        itself.trace()


def test_after_a_refusal_functions_are_plain_again() -> None:
    with pytest.raises(DefinitionError):
        dsfn.workflow(truth).trace()
    assert has_speech(Audio(b"abc")) is True


def test_a_symbol_shows_what_it_is() -> None:
    seen: list[str] = []

    @dsfn.workflow
    def flow(n: Json, photo: Image) -> Json:
        seen.extend([repr(n["a"][0]), repr(classify(photo))])
        return n

    flow.trace()
    assert seen == ["<[0] of ['a'] of input 'n'>", "<the result of step 'classify'>"]
