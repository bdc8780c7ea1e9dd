"""Types across the edges of a workflow: what fits, and the word for what does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
from album import album, classify, count, has_speech, interfaces, keep, thumbnail, words
from dags import INTERFACES, dags
from hypothesis import given
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

import dsfn
from dsfn import Audio, Event, File, Image, Json, Tensor, Text, Video
from dsfn.functions.errors import DefinitionError
from dsfn.functions.function import Function
from dsfn.functions.interface import Interface
from dsfn.functions.workflow.checking import check
from dsfn.functions.workflow.dag import (
    MAX_CONSTANT_BYTES,
    MAX_EXPRESSIONS,
    Call,
    Choice,
    Collected,
    Constant,
    Dag,
    Decide,
    Each,
    Expr,
    Fallback,
    Field,
    Input,
    Item,
    ListOf,
    Result,
    Step,
    StepOptions,
    Within,
    WorkflowInput,
    WorkflowOptions,
    WorkflowResult,
)
from dsfn.functions.workflow.resolving import resolve


class Guess(BaseModel):
    label: str
    score: float
    parent: Guess | None = None


class Scored(BaseModel):
    score: float


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    score: float


class Row(TypedDict):
    id: int
    tags: list[str]


@dsfn.function
def guesses(n: int) -> list[Guess]:
    return []


@dsfn.function
def guess(n: int) -> Guess:
    return Guess(label="", score=0)


@dsfn.function
def maybe(n: int) -> int | None:
    return None


@dsfn.function
def pair(n: int) -> tuple[int, str]:
    return n, ""


@dsfn.function
def table(n: int) -> dict[str, int]:
    return {}


@dsfn.function
def ratio(n: int) -> float:
    return 0.5


@dsfn.function
def take_int(x: int) -> int:
    return x


@dsfn.function
def take_float(x: float) -> int:
    return 0


@dsfn.function
def take_text(x: Text) -> Text:
    return x


@dsfn.function
def take_string(x: str) -> int:
    return 0


@dsfn.function
def take_strings(x: list[str]) -> int:
    return 0


@dsfn.function
def take_guess(x: Guess) -> int:
    return 0


@dsfn.function
def take_scored(x: Scored) -> int:
    return 0


@dsfn.function
def take_strict(x: Strict) -> int:
    return 0


@dsfn.function
def take_row(x: Row) -> int:
    return 0


@dsfn.function
def take_any(x: Json) -> Json:
    return x


@dsfn.function
def take_two(x: tuple[int, str]) -> int:
    return 0


@dsfn.function
def take_mode(x: Literal["a", "b"], top: int = 5) -> int:
    return 0


@dsfn.function
def take_image(x: Image) -> Image:
    return x


@dsfn.function
def take_event(x: Event) -> Event:
    return x


OWN: tuple[Function[..., Any], ...] = tuple(
    found for found in list(globals().values()) if isinstance(found, Function)
)
KNOWN: dict[str, Interface] = {**interfaces(), **{f.options.name: f.interface() for f in OWN}}


def checked(body: Callable[..., Any]) -> str:
    """The type of what a body gives, in words."""
    return str(check(resolve(dsfn.workflow(body).trace(), KNOWN), KNOWN))


FITTING: list[tuple[Any, Any, str]] = [
    (int, lambda x: take_float(x), "integer"),
    (int, lambda x: take_int(x), "integer"),
    (Image, lambda x: keep(x), "integer"),
    (File, lambda x: classify(x), "list of string"),
    (Text, lambda x: take_string(x), "integer"),
    (str, lambda x: take_text(x), "Text"),
    (Json, lambda x: take_text(x), "Text"),
    (Json, lambda x: take_int(x["a"][0]), "integer"),
    (int, lambda x: take_guess(guess(x)), "integer"),
    (int, lambda x: take_scored(guess(x)), "integer"),
    (int, lambda x: take_int(maybe(x)), "integer"),
    (int, lambda x: take_string(guess(x)["label"]), "integer"),
    (int, lambda x: take_string(guess(x).parent.parent.label), "integer"),
    (int, lambda x: take_string(guesses(x)[3].label), "integer"),
    (int, lambda x: take_int(table(x)["anything"]), "integer"),
    (int, lambda x: take_int(pair(x)[0]), "integer"),
    (int, lambda x: take_two(pair(x)), "integer"),
    (int, lambda x: take_two([x, "a"]), "integer"),
    (int, lambda x: take_row({"id": x, "tags": ["a"]}), "integer"),
    (int, lambda x: take_row({"id": 1, "tags": []}), "integer"),
    (int, lambda x: take_scored(table(x)), "integer"),
    (int, lambda x: take_any(guess(x)), "JSON"),
    (int, lambda x: take_mode("a"), "integer"),
    (str, lambda x: take_mode(x), "integer"),
    (int, lambda x: take_strings(dsfn.map(lambda g: g.label, guesses(x))), "integer"),
    (int, lambda x: dsfn.map(guess, count(x)), "list of Guess"),
    (int, lambda x: dsfn.map(guess, []), "list of Guess"),
    (int, lambda x: dsfn.when(guess(x), 1, None), "1 or null"),
    (int, lambda x: [guess(x), count(x)], "[Guess, list of integer]"),
    (Event, lambda x: take_event(x), "Event"),
    (Event, lambda x: take_any(x), "JSON"),
    (Event, lambda x: take_any(x["data"]["path"]), "JSON"),
    (Text, lambda x: words(x), "Text"),
    (int, lambda x: count.step(fallback=["none"])(x), 'list of integer or ["none"]'),
    (int, lambda x: take_strings([]), "integer"),
    (list[Image], lambda x: dsfn.map(thumbnail, x), "list of Image"),
    (list[Image], lambda x: thumbnail(x[0]), "Image"),
    (list[File], lambda x: dsfn.map(classify, x), "list of list of string"),
    (list[Text], lambda x: take_strings(x), "integer"),
    (Image, lambda x: {"small": thumbnail(x), "all": [x]}, "{small: Image, all: [Image]}"),
    (Image, lambda x: take_image.step(fallback=None)(x), "Image or null"),
    (Image, lambda x: take_image(take_image.step(fallback=None)(x)), "Image"),
]


@pytest.mark.parametrize(("kind", "made", "type_"), FITTING)
def test_what_may_fit_is_let_through(kind: Any, made: Any, type_: str) -> None:
    def flow(x: Any) -> Json:
        return made(x)

    flow.__annotations__ = {"x": kind, "return": Json}
    dag = replace(dsfn.workflow(flow).trace(), result=None)
    assert str(check(resolve(dag, KNOWN), KNOWN)) == type_


MISFITS: list[tuple[Any, Any, str]] = [
    (
        Image,
        lambda x: has_speech(x),
        "argument 'voice' of step 'has-speech' takes Audio and cannot be given Image",
    ),
    (Image, lambda x: take_any(x), "takes JSON and cannot be given Image"),
    (Tensor, lambda x: take_text(x), "takes Text and cannot be given Tensor"),
    (Video, lambda x: thumbnail(x), "takes Image and cannot be given Video"),
    (int, lambda x: take_text(x), "takes Text and cannot be given integer"),
    (int, lambda x: take_image(x), "takes Image and cannot be given integer"),
    (Json, lambda x: take_image(x), "takes Image and cannot be given JSON"),
    (Event, lambda x: take_image(x), "takes Image and cannot be given Event"),
    (Json, lambda x: take_event(x), "takes Event and cannot be given JSON"),
    (Image, lambda x: take_event(x), "takes Event and cannot be given Image"),
    (int, lambda x: take_int(ratio(x)), "takes integer and cannot be given number"),
    (int, lambda x: take_string(x), "takes string and cannot be given integer"),
    (str, lambda x: take_int(x), "takes integer and cannot be given string"),
    (
        int,
        lambda x: take_strings(count(x)),
        "takes list of string and cannot be given list of integer: integer is not string",
    ),
    (int, lambda x: take_strings(x), "takes list of string and cannot be given integer"),
    (int, lambda x: take_strings(guesses(x)), "cannot be given list of Guess"),
    (
        int,
        lambda x: take_row(guess(x)),
        "takes Row and cannot be given Guess: it has no member 'id'",
    ),
    (int, lambda x: take_row({"id": "a", "tags": []}), "takes Row and cannot be given"),
    (int, lambda x: take_row({"id": x, "tags": [x]}), "'tags': item 0: integer is not string"),
    (int, lambda x: take_row({"tags": [], "idd": x}), "it has no member 'id'"),
    (int, lambda x: take_strict(guess(x)), "its member 'label' is not taken"),
    (int, lambda x: take_strict({"score": 1, "x": x}), "its member 'x' is not taken"),
    (int, lambda x: take_scored(table(x)["a"]), "takes Scored and cannot be given integer"),
    (
        int,
        lambda x: take_mode("c"),
        "takes \"a\" or \"b\" and cannot be given \"c\": 'c' is not one of ['a', 'b']",
    ),
    (int, lambda x: take_mode(x), 'takes "a" or "b" and cannot be given integer'),
    (int, lambda x: take_two([x]), "has not as many items"),
    (int, lambda x: take_two(["a", x]), 'item 0: "a" is not integer'),
    (int, lambda x: take_two(dsfn.deployed("pair")(x)[1]), "cannot be given string"),
    (int, lambda x: pair(x)[2], "needs [2] of list of integer or string, which has none"),
    (int, lambda x: guess(x).labels, "its output needs ['labels'] of Guess, which has none"),
    (int, lambda x: take_int(guess(x)[0]), "argument 'x' of step 'take-int' needs [0] of Guess"),
    (
        int,
        lambda x: take_int(dsfn.when(x, 1, "a")),
        'takes integer and cannot be given 1 or "a": "a" is not integer',
    ),
    (
        int,
        lambda x: dsfn.map(guess, guess(x)),
        "map 'map-guess' goes over Guess, which is not a list",
    ),
    (list[Image], lambda x: dsfn.map(has_speech, x), "takes Audio and cannot be given Image"),
    (list[Image], lambda x: take_any(x), "takes JSON and cannot be given list of Image"),
    (
        list[Image],
        lambda x: dsfn.when(dsfn.deployed("take-image")(x[0]), 1, 2),
        "the condition of 'when' is Image; it must be JSON or Text",
    ),
    (Image, lambda x: dsfn.deployed("frames")(x), "calls frames, which streams image parts"),
    (Image, lambda x: take_any({"x": [x]}), "cannot be given {x: [Image]}"),
    (
        int,
        lambda x: dsfn.deployed("take-int")(y=x),
        "gives 'y', which take-int does not take; it takes 'x'",
    ),
    (
        int,
        lambda x: dsfn.deployed("take-mode")("a", tip=x),
        "gives 'tip', which take-mode does not take (is it top?)",
    ),
    (int, lambda x: dsfn.deployed("take-int")(), "does not give 'x', which take-int needs"),
    (int, lambda x: take_int.step(fallback=take_string)(x), "takes string and cannot be given"),
    (int, lambda x: take_int.step(fallback=guess)(x), "gives 'x', which guess does not take"),
    (int, lambda x: take_int(take_int.step(fallback="a")(x)), '"a" is not integer'),
]


@pytest.mark.parametrize(("kind", "made", "problem"), MISFITS)
def test_what_never_fits_is_refused_with_step_argument_and_types(
    kind: Any, made: Any, problem: str
) -> None:
    def flow(x: Any) -> Json:
        return made(x)

    flow.__annotations__ = {"x": kind, "return": Json}
    with pytest.raises(DefinitionError) as refused:
        checked(flow)
    assert problem in refused.value.message
    assert refused.value.message.startswith("In workflow 'flow', ")


@pytest.mark.parametrize(
    ("declared", "made", "problem"),
    [
        (Image, lambda x: thumbnail(x), None),
        (File, lambda x: thumbnail(x), None),
        (list[Image], lambda x: [thumbnail(x), x], None),
        (list[Image], lambda x: dsfn.map(thumbnail, [x, x]), None),
        (list[str], lambda x: classify(x), None),
        (Json, lambda x: {"image": x}, None),
        (None, lambda x: None, None),
        (Json, lambda x: x, "the result is declared as JSON but is Image"),
        (Audio, lambda x: x, "the result is declared as Audio but is Image"),
        (list[Audio], lambda x: [x], "declared as list of Audio but is [Image]: Image is not"),
        (list[int], lambda x: classify(x), "declared as list of integer but is list of string"),
        (None, lambda x: classify(x), "declared as null but is list of string"),
        (Image, lambda x: dsfn.when(keep(x), lambda: thumbnail(x), ""), 'Image or "": "" is not'),
        (dict[str, int], lambda x: {"a": x}, "its member 'a': Image is not integer"),
    ],
)
def test_the_result_is_what_the_workflow_declares(
    declared: Any, made: Any, problem: str | None
) -> None:
    def flow(x: Image) -> Json:
        return made(x)

    flow.__annotations__ = {"x": Image, "return": declared}
    if problem is None:
        checked(flow)
        return
    with pytest.raises(DefinitionError) as refused:
        checked(flow)
    assert problem in refused.value.message


def test_the_album_fits() -> None:
    assert checked(album.target) == "JSON"


@given(dags())
def test_random_workflows_of_fitting_types_are_let_through(dag: Dag) -> None:
    assert resolve(dag, INTERFACES) == dag
    check(dag, INTERFACES)


def test_a_member_that_one_case_of_several_has_may_be_taken() -> None:
    @dsfn.workflow
    def first(n: int) -> Json:
        found = guesses.step(fallback=[])(n)
        return dsfn.when(found, lambda: found[0], None)

    check(first.trace(), {"guesses": guesses.interface()})


def test_a_default_must_fit_its_input() -> None:
    def flow(n: int = "a") -> int:  # type: ignore[assignment]
        return n

    with pytest.raises(DefinitionError, match="the default of input 'n' does not fit"):
        checked(flow)


def test_schemas_that_refer_elsewhere_are_not_fetched_and_recursive_ones_end() -> None:
    tree = {
        "$ref": "#/$defs/Tree",
        "$defs": {
            "Tree": {
                "anyOf": [
                    {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
                    {"type": "array", "prefixItems": [{"$ref": "#/$defs/Tree"}], "items": False},
                    {"type": "integer"},
                ]
            },
            "Loop": {"$ref": "#/$defs/Loop"},
        },
    }
    strings = {**tree, "$defs": {"Tree": {**tree["$defs"]["Tree"]}}}
    away = {"$ref": "https://example.invalid/schema"}
    loop = {"$ref": "#/$defs/Loop", "$defs": tree["$defs"]}
    for schema in (tree, strings, away, loop):
        inputs = (WorkflowInput("x", "json", schema=schema, required=True),)
        result = WorkflowResult("json", schema=tree)
        dag = Dag(WorkflowOptions("tree"), "", inputs, (), Input("x"), result=result)
        check(dag, {})
        constant = replace(dag, output=Constant("3"), result=WorkflowResult("json", schema=schema))
        check(constant, {})


ONE = Constant("1")


def dag_of(*steps: Step, output: Expr = ONE, **changes: Any) -> Dag:
    """A workflow as a document may bring it."""
    inputs = (WorkflowInput("n", "json", schema={"type": "integer"}),)
    return replace(Dag(WorkflowOptions("flow"), "", inputs, steps, output), **changes)


DOUBLE = Call("double", "double", (("n", Input("n")),))
EACH = Each("each", (Constant("[1,2]"),))
INSIDE = Call("inside", "double", (("n", Item("each")),), Within("each"))
DECIDE = Decide("if", Input("n"))
TAKEN = Call("taken", "double", (("n", Input("n")),), Within("if", True))


def big() -> Expr:
    expr: Expr = Input("n")
    for _ in range(17):
        expr = ListOf((expr, expr))
    return expr


@pytest.mark.parametrize(
    ("dag", "problem"),
    [
        (dag_of(DOUBLE, DOUBLE), "there are two steps of the name 'double'"),
        (dag_of(replace(DOUBLE, id="Ä b")), "is no name for a step"),
        (dag_of(replace(DOUBLE, id="a" * 256)), "at most 255 characters"),
        (dag_of(replace(DOUBLE, function="No!")), "A function's name must be"),
        (dag_of(replace(DOUBLE, options=StepOptions(retries=-1))), "step 'double': retries"),
        (
            dag_of(replace(DOUBLE, options=StepOptions(fallback=Fallback("No!")))),
            "A function's name must be",
        ),
        (dag_of(replace(DOUBLE, arguments=(("n", Input("m")),))), "needs the input 'm'"),
        (dag_of(replace(DOUBLE, arguments=DOUBLE.arguments * 2)), "gives the argument 'n' twice"),
        (
            dag_of(replace(DOUBLE, arguments=(("n", Result("late")),)), replace(DOUBLE, id="late")),
            "step 'double' needs step 'late', which comes no sooner",
        ),
        (
            dag_of(replace(DOUBLE, arguments=(("n", Result("double")),))),
            "step 'double' needs step 'double', which comes no sooner",
        ),
        (dag_of(output=Result("gone")), "its output needs step 'gone', which there is not"),
        (dag_of(EACH, INSIDE, output=Result("inside")), "is in map 'each' and is not there"),
        (dag_of(EACH, INSIDE, output=Result("each")), "needs 'each' as a call, which it is not"),
        (dag_of(DECIDE, TAKEN, output=Result("taken")), "is in a branch of 'if' and is not there"),
        (
            dag_of(DECIDE, TAKEN, output=Choice("if", Constant("1"), Result("taken"))),
            "is in a branch of 'if' and is not there",
        ),
        (dag_of(EACH, output=Item("each")), "needs an item of 'each', which it is not within"),
        (
            dag_of(EACH, replace(INSIDE, arguments=(("n", Item("each", 1)),))),
            "needs an item of list 1 of 'each': it has 1",
        ),
        (
            dag_of(EACH, replace(INSIDE, arguments=(("n", Collected("each", Constant("1"))),))),
            "needs what 'each' gives before that is over",
        ),
        (
            dag_of(
                EACH,
                replace(DOUBLE, arguments=(("n", Collected("each", Constant("1"))),)),
                INSIDE,
            ),
            "needs what 'each' gives before that is over",
        ),
        (dag_of(replace(EACH, items=())), "map 'each' goes over no list"),
        (dag_of(replace(EACH, parallel=0)), "parallel must be a whole number"),
        (dag_of(replace(INSIDE, within=Within("nowhere"))), "no map or decision before it"),
        (dag_of(EACH, replace(INSIDE, within=Within("each", True))), "in a branch of a map"),
        (dag_of(DECIDE, replace(TAKEN, within=Within("if"))), "or in none of two"),
        (dag_of(output=Field(Input("n"), -1)), "takes the member -1, which none can be"),
        (dag_of(output=Field(Input("n"), True)), "takes the member True, which none can be"),
        (dag_of(output=big()), f"more than {MAX_EXPRESSIONS} values are passed on"),
        (
            dag_of(output=Constant.of("a" * MAX_CONSTANT_BYTES)),
            f"constants have more than {MAX_CONSTANT_BYTES} bytes",
        ),
        (dag_of(options=WorkflowOptions("Flow")), "The name of a workflow must be"),
        (dag_of(options=WorkflowOptions("flow", timeout_s=-1)), "timeout must be from"),
        (dag_of(inputs=(WorkflowInput("a b", "json"),)), "is no name"),
        (dag_of(inputs=(WorkflowInput("n", "json"),) * 2), "input 'n' is there twice"),
        (dag_of(inputs=(WorkflowInput("n", "sound"),)), "of the kind 'sound'"),
        (dag_of(inputs=(WorkflowInput("n", "event", many=True),)), "is a list of events"),
        (dag_of(inputs=(WorkflowInput("n", "json", required=False),)), "have a default or be"),
        (
            dag_of(inputs=tuple(WorkflowInput(f"n{i}", "json") for i in range(257))),
            "there are 257 inputs; at most 256",
        ),
        (
            dag_of(*(replace(DOUBLE, id=f"double-{i}") for i in range(1001))),
            "it has 1001 steps; at most 1000",
        ),
        (
            dag_of(
                EACH,
                *(
                    Each(
                        f"each-{i}",
                        (Constant("[]"),),
                        Within(f"each-{i - 1}" if i else "each"),
                    )
                    for i in range(9)
                ),
            ),
            "nested deeper than 8",
        ),
    ],
)
def test_a_document_that_is_no_graph_is_refused(dag: Dag, problem: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        check(dag, INTERFACES)
    assert problem in refused.value.message
