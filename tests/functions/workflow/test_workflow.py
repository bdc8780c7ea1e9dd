"""`@workflow`: what it makes of a function, called plainly and traced."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from album import album, classify, count, has_speech, transcribe, words

import dsfn
from dsfn import Audio, Event, Image, Json, Text
from dsfn.functions.errors import DefinitionError, InvalidInput, NotFound
from dsfn.functions.workflow.dag import (
    Call,
    Choice,
    Collected,
    Constant,
    Decide,
    Each,
    Field,
    Input,
    Item,
    ListOf,
    ObjectOf,
    Result,
    StepOptions,
    Within,
    WorkflowInput,
    WorkflowResult,
)

PHOTOS = [Image(b"cat"), Image(b"dog")]


def test_the_album_is_traced_into_its_steps() -> None:
    dag = album.trace()
    assert dag.steps == (
        Each("map-classify", (Input("photos"),), None, 8),
        Call(
            "classify",
            "classify",
            (("image", Item("map-classify")),),
            Within("map-classify"),
            StepOptions(retries=3),
        ),
        Call("has-speech", "has-speech", (("voice", Input("voice")),)),
        Decide("when", Result("has-speech")),
        Call("transcribe", "transcribe", (("audio", Input("voice")),), Within("when", True)),
        Call(
            "index",
            "index",
            (
                ("labels", Collected("map-classify", Result("classify"))),
                ("text", Choice("when", Result("transcribe"), Constant('""'))),
            ),
        ),
    )
    assert dag.output == Result("index")
    assert dag.inputs == (
        WorkflowInput("photos", "image", many=True),
        WorkflowInput("voice", "audio"),
    )
    assert dag.result == WorkflowResult("json", schema={})
    assert (dag.name, dag.description) == ("album", "Labels photos and says what was said.")


def test_called_outside_of_tracing_it_is_the_plain_function() -> None:
    assert album(PHOTOS, Audio(b"hello")) == {
        "labels": [["cat"], ["dog"]],
        "text": "hello",
        "made": True,
    }
    assert album([], voice=Audio(b""))["text"] == ""


def test_a_plain_call_works_where_an_event_loop_runs() -> None:
    async def call() -> Any:
        return album(PHOTOS, Audio(b"hello"))

    assert asyncio.run(call())["text"] == "hello"


def test_called_plainly_streams_come_whole() -> None:
    @dsfn.workflow
    def streams(text: Text) -> Json:
        return [count(3), words(text)]

    assert streams(Text("a b")) == [[0, 1, 2], "ab"]


def test_what_a_function_calls_itself_is_no_step() -> None:
    @dsfn.function
    async def outer(n: int) -> int:
        return await inner(n) + 1

    @dsfn.function
    async def inner(n: int) -> int:
        return n * 2

    @dsfn.workflow
    def flow(n: int) -> int:
        return outer(n)

    assert flow(3) == 7
    assert [step.id for step in flow.trace().steps] == ["outer"]


def test_options_and_triggers_are_in_the_graph_wherever_on_stands() -> None:
    @dsfn.on(type="above")
    @dsfn.workflow(
        name="nightly",
        timeout="2h",
        budget="0.05",
        parallel=3,
        schedule="0 6 * * 1",
        tags=["photos"],
    )
    @dsfn.on(type="below", prefix={"subject": "a"})
    def flow(event: Event, threshold: float = 0.5, note: Text | None = None) -> Json:
        return dsfn.deployed("look")(event, threshold)

    dag = flow.trace()
    options = dag.options
    assert (options.name, options.timeout_s, options.budget_nano) == ("nightly", 7200, 50_000_000)
    assert (options.parallel, options.schedule, options.tags) == (3, "0 6 * * 1", ("photos",))
    assert [t.exact for t in dag.triggers] == [{"type": "above"}, {"type": "below"}]
    assert dag.triggers[1].prefix == {"subject": "a"}
    assert dag.inputs == (
        WorkflowInput("event", "event"),
        WorkflowInput("threshold", "json", False, {"type": "number"}, False, Constant("0.5")),
        WorkflowInput("note", "text", required=False, default=Constant("null")),
    )


def test_a_workflow_is_pickled_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(album)) is album


def test_members_of_json_are_taken_by_key_index_and_name() -> None:
    @dsfn.workflow
    def flow(data: Json, photos: list[Image]) -> Json:
        return classify(photos[1], data["a b"][0].top)

    (step,) = flow.trace().steps
    assert isinstance(step, Call)
    top = Field(Field(Field(Input("data"), "a b"), 0), "top")
    assert step.arguments == (("image", Field(Input("photos"), 1)), ("top", top))


def test_symbols_go_into_lists_and_dictionaries() -> None:
    @dsfn.workflow
    def flow(a: int, voice: Audio) -> Json:
        x, y = dsfn.gather(count(a), count(2))
        return {"x": (x, 1), "y": [y, {"z": [None, 2.5]}], "voice": voice}

    dag = flow.trace()
    assert dag.output == ObjectOf(
        (
            ("x", ListOf((Result("count"), Constant("1")))),
            ("y", ListOf((Result("count-2"), Constant('{"z":[null,2.5]}')))),
            ("voice", Input("voice")),
        )
    )


def test_steps_are_named_after_their_functions_and_numbered() -> None:
    @dsfn.workflow
    def flow(n: int) -> Json:
        last = count.step(name="last")
        return [count(n), count(n), last(n), last(n), dsfn.map(count, [n]), count(1)]

    ids = [step.id for step in flow.trace().steps]
    assert ids == ["count", "count-2", "last", "last-2", "map-count", "count-3", "count-4"]


def test_a_step_has_the_options_that_were_set() -> None:
    retried = count.step(
        retries=5,
        backoff_policy="linear",
        backoff_delay="PT0.5S",
        timeout="30s",
        cache=True,
        budget="0.000000001",
        fallback=[],
    )

    @dsfn.workflow
    def flow(n: int) -> Json:
        return [retried(n), count.step(fallback=dsfn.deployed("other"))(n)]

    first, second = flow.trace().steps
    assert isinstance(first, Call) and isinstance(second, Call)
    options = first.options
    assert (options.retries, options.backoff_policy, options.backoff_delay_s) == (5, "linear", 0.5)
    assert (options.timeout_s, options.cache, options.budget_nano) == (30.0, True, 1)
    assert options.fallback is not None and options.fallback.value == Constant("[]")
    assert second.options.fallback is not None and second.options.fallback.function == "other"
    assert list(retried(2)) == [0, 1]  # outside of a workflow they are without effect


def test_a_sub_workflow_is_inlined_under_its_name() -> None:
    @dsfn.workflow
    def speech(voice: Audio, otherwise: str = "-") -> Json:
        return [dsfn.when(has_speech(voice), lambda: transcribe(voice), otherwise)]

    @dsfn.workflow
    def both(a: Audio, b: Audio) -> Json:
        (first,) = speech(a)
        return [first, speech(b, otherwise="none")[0], dsfn.map(speech, [a, b])]

    dag = both.trace()
    ids = [step.id for step in dag.steps]
    assert ids[:3] == ["speech.has-speech", "speech.when", "speech.transcribe"]
    assert ids[3:6] == ["speech-2.has-speech", "speech-2.when", "speech-2.transcribe"]
    assert ids[6:8] == ["map-speech", "speech-3.has-speech"]
    assert isinstance(dag.output, ListOf)
    assert dag.output.items[:2] == (
        Choice("speech.when", Result("speech.transcribe"), Constant('"-"')),
        Choice("speech-2.when", Result("speech-2.transcribe"), Constant('"none"')),
    )
    assert both(Audio(b"hello"), Audio(b"")) == ["hello", "none", [["hello"], ["-"]]]


def test_maps_nest_and_go_over_several_lists() -> None:
    @dsfn.workflow
    def flow(rows: list[list[int]], names: list[str]) -> Json:
        def of_row(row: list[int], name: str) -> Json:
            return {"name": name, "counts": dsfn.map(count, row, name="inner")}

        return dsfn.map(of_row, rows, names, name="rows")

    dag = flow.trace()
    assert dag.steps == (
        Each("rows", (Input("rows"), Input("names"))),
        Each("map-inner", (Item("rows", 0),), Within("rows")),
        Call("inner", "count", (("to", Item("map-inner")),), Within("map-inner")),
    )
    counts = Collected("map-inner", Result("inner"))
    each = ObjectOf((("name", Item("rows", 1)), ("counts", counts)))
    assert dag.output == Collected("rows", each)
    assert flow([[1], []], ["a", "b"]) == [
        {"name": "a", "counts": [[0]]},
        {"name": "b", "counts": []},
    ]
    with pytest.raises(InvalidInput, match="not equally long"):
        flow([[1]], [])


def test_a_condition_that_is_known_takes_its_branch_at_once() -> None:
    @dsfn.workflow
    def flow(n: int) -> Json:
        return dsfn.when(True, lambda: count(n), lambda: count(0))

    assert [type(step) for step in flow.trace().steps] == [Call]


def test_combinators_work_outside_of_workflows() -> None:
    assert dsfn.map(count, [1, 2]) == [[0], [0, 1]]
    assert dsfn.map(lambda a, b: a + b, [1, 2], (3, 4)) == [4, 6]
    assert dsfn.when([], "then", lambda: "otherwise") == "otherwise"
    assert dsfn.gather(1, "a") == (1, "a")
    with pytest.raises(NotFound, match="known by its name alone"):
        dsfn.deployed("embed")(1)


def test_constants_may_be_models() -> None:
    from pydantic import BaseModel

    class Size(BaseModel):
        width: int

    @dsfn.workflow
    def flow() -> Json:
        return dsfn.deployed("draw")(size=Size(width=3))

    (step,) = flow.trace().steps
    assert isinstance(step, Call)
    assert step.arguments == (("size", Constant('{"width":3}')),)


def async_flow() -> Any:
    async def flow(n: int) -> int:
        return n

    return dsfn.workflow(flow)


def generator_flow() -> Any:
    def flow(n: int) -> Iterator[int]:
        yield n

    return dsfn.workflow(flow)


def class_flow() -> Any:
    class Flow:
        def __call__(self, n: int) -> int:
            return n

    return dsfn.workflow(Flow)


def unnamed_result() -> Any:
    def flow(n: int):  # type: ignore[no-untyped-def]
        return n

    return dsfn.workflow(flow).trace()


def part_within() -> Any:
    def flow(n: dict[str, Image]) -> int:
        return 1

    return dsfn.workflow(flow).trace()


def default_image() -> Any:
    def flow(n: Image = Image(b"")) -> int:  # noqa: B008
        return 1

    return dsfn.workflow(flow).trace()


def default_of_image() -> Any:
    def flow(n: Image = "none") -> int:  # type: ignore[assignment]
        return 1

    return dsfn.workflow(flow).trace()


def stream_result() -> Any:
    def flow(n: int) -> Iterator[int]:
        return iter([n])

    return dsfn.workflow(flow).trace()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (async_flow, "must be a plain function, not an asynchronous one"),
        (generator_flow, "yields; it must return"),
        (class_flow, "goes on a function, not on a type"),
        (unnamed_result, "The result of 'flow' has no annotation"),
        (part_within, "has Image inside another type"),
        (default_image, "The default of 'n' of 'flow' holds Image"),
        (default_of_image, "is not of kind image"),
        (stream_result, "cannot be a stream"),
        (lambda: dsfn.workflow(classify), "is decorated already"),
        (lambda: dsfn.workflow(album), "is decorated already"),
        (lambda: dsfn.workflow(album.target, name="x"), "takes its options by name"),
        (lambda: dsfn.workflow(color="red")(album.target), "has no option 'color'"),
        (lambda: dsfn.workflow(name="Al bum")(album.target), "lower-case letters"),
        (lambda: dsfn.workflow(schedule="daily")(album.target), "is no cron expression"),
        (lambda: dsfn.workflow(budget=0.05)(album.target), "a decimal text such as '0.05'"),
        (lambda: dsfn.workflow(budget="much")(album.target), "is no amount"),
        (lambda: dsfn.workflow(budget="1e-10")(album.target), "at most nine decimal places"),
        (lambda: dsfn.workflow(budget=0)(album.target), "budget"),
        (lambda: dsfn.workflow(parallel=0)(album.target), "parallel must be a whole number"),
        (lambda: dsfn.workflow(timeout="-1s")(album.target), "is not a duration"),
        (lambda: dsfn.workflow(timeout=0)(album.target), "timeout must be from"),
        (lambda: dsfn.workflow(tags="abc")(album.target), "tags must be a list"),
        (lambda: dsfn.deployed("No!"), "The name of a deployed function"),
        (lambda: dsfn.map(count), "needs a list"),
        (lambda: dsfn.map(3, [1]), "needs a function"),
        (lambda: dsfn.map(len, ["a"], retries=2), "retries is for the step"),
        (lambda: dsfn.map(count.step(retries=1), [1], retries=2), "has its settings"),
        (lambda: dsfn.map(count, [1], parallel=5000), "parallel must be"),
        (lambda: count.step(colour=1), "no option 'colour'"),
        (lambda: count.step(retries=101), "retries must be a whole number from 0 to 100"),
        (lambda: count.step(retries=True), "retries must be"),
        (lambda: count.step(backoff_policy="cubic"), "'linear' or 'exponential'"),
        (lambda: count.step(timeout="soon"), "is not a duration"),
        (lambda: count.step(timeout="PT"), "is not a duration"),
        (lambda: count.step(cache="yes"), "cache must be True or False"),
        (lambda: count.step(fallback=len), "a deployed function or a constant"),
        (lambda: count.step(fallback=float("nan")), "NaN or infinity"),
        (lambda: count.step(fallback=Image(b"")), "holds Image"),
        (lambda: count.step(name="Ä"), "The name of a step"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_word(make: Any, problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        make()
