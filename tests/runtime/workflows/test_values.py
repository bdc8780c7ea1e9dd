"""What flows between steps: JSON, text and parts, small and large, as the functions get them."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_node import RunNode, answer_to, interface, of, raw_answer, workflow

from dsfn.functions.errors import InvalidInput
from dsfn.functions.interface import Interface, ResultInterface
from dsfn.functions.workflow.dag import (
    MAX_ITEMS,
    Choice,
    Collected,
    Constant,
    Decide,
    Each,
    Expr,
    Field,
    Input,
    Item,
    ListOf,
    ObjectOf,
    Result,
    Within,
    WorkflowInput,
)
from dsfn.functions.workflow.dag import (
    Call as CallStep,
)
from dsfn.runtime.model import Answer, Call
from dsfn.runtime.workflows.model import Blob, RunState
from dsfn.runtime.workflows.values import split

OnNode = Callable[..., None]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
INPUTS = (WorkflowInput("x", "json"),)


def one_call(argument: Expr, *more: tuple[str, Expr], output: Expr | None = None) -> Any:
    """A workflow that calls `f` on arguments."""
    step = CallStep("s", "f", (("x", argument), *more))
    return workflow(step, output=output or Result("s"), inputs=INPUTS)


def image(data: bytes = PNG, **more: Any) -> Blob:
    return Blob("image/png", len(data), data, **more)


class Seen:
    """A function that remembers what it was called with."""

    def __init__(self, gives: tuple[str, bytes] = ("application/json", b"1")) -> None:
        self.gives = gives
        self.calls: list[Call] = []

    async def __call__(self, call: Call) -> Answer:
        self.calls.append(call)
        return raw_answer(call, self.gives[1], self.gives[0])


def body_of(on_node: OnNode, parameters: dict[str, str], value: Any, *more: Any) -> Call:
    """The call that a function with these parameters gets for an input and further arguments."""
    seen = Seen()

    async def scenario(node: RunNode) -> None:
        dag = one_call(Input("x"), *more)
        run = node.new_run(dag, {"x": value})
        record = await node.engine.wait(await node.engine.start(run))
        assert record.state is RunState.SUCCEEDED, record.error

    on_node(scenario, behave=seen, interfaces={"f": interface(*parameters.items())})
    return seen.calls[0]


def test_a_function_of_one_part_gets_its_bytes_as_they_are(on_node: OnNode) -> None:
    call = body_of(on_node, {"x": "image"}, image())
    assert (call.content_type, call.body) == ("image/png", PNG)


def test_a_part_with_a_name_keeps_it(on_node: OnNode) -> None:
    call = body_of(on_node, {"x": "file"}, image(name="a.png"))
    assert json.loads(call.body)["x"] == {
        "content_type": "image/png",
        "base64": b64encode(PNG).decode(),
        "name": "a.png",
    }


def test_json_for_a_file_is_not_taken_for_arguments(on_node: OnNode) -> None:
    call = body_of(on_node, {"x": "file"}, of({"y": 1}))
    assert (call.content_type, json.loads(call.body)) == ("application/json", {"x": {"y": 1}})


def test_several_arguments_go_as_json_with_small_parts_inside(on_node: OnNode) -> None:
    more = ("n", Constant.of(3))
    call = body_of(on_node, {"x": "image", "n": "json"}, image(), more)
    assert json.loads(call.body) == {
        "x": {"content_type": "image/png", "base64": b64encode(PNG).decode()},
        "n": 3,
    }


def test_a_large_part_goes_by_reference(on_node: OnNode) -> None:
    data = PNG * 1000
    call = body_of(on_node, {"x": "image"}, image(data))
    sent = json.loads(call.body)["x"]
    assert sent["content_type"] == "image/png"
    assert sent["$ref"].startswith("blob:sha256:")


def test_text_is_a_json_string_for_json_and_the_other_way_round(on_node: OnNode) -> None:
    text = Blob("text/plain; charset=utf-8", 8, 'größe"'.encode())
    more = ("n", Constant.of(3))
    assert json.loads(body_of(on_node, {"x": "json"}, text).body) == {"x": 'größe"'}
    assert json.loads(body_of(on_node, {"x": "text", "n": "json"}, text, more).body)["x"] == (
        'größe"'
    )
    call = body_of(on_node, {"x": "text"}, of("größe"))
    assert json.loads(call.body) == {"x": "größe"}


def test_text_in_another_charset_is_understood(on_node: OnNode) -> None:
    text = Blob("text/plain; charset=iso-8859-1", 5, "größe".encode("iso-8859-1"))
    assert json.loads(body_of(on_node, {"x": "json"}, text).body) == {"x": "größe"}


def test_numbers_keep_all_their_digits(on_node: OnNode) -> None:
    number = b"123456789012345678901234567890.5"
    call = body_of(on_node, {"x": "json"}, Blob("application/json", len(number), number))
    assert call.body == b'{"x":' + number + b"}"


def test_a_large_result_is_handed_on_whole_and_an_output_by_reference(on_node: OnNode) -> None:
    seen = Seen(("application/json", json.dumps(["x" * 100] * 2000).encode()))

    async def scenario(node: RunNode) -> None:
        flow = workflow(
            CallStep("a", "f", ()),
            CallStep("b", "f", (("x", Field(Result("a"), 7)), ("y", Result("a")))),
            output=ListOf((Result("b"), Constant.of(1))),
        )
        record = await node.run(flow)
        assert json.loads(seen.calls[1].body) == {"x": "x" * 100, "y": ["x" * 100] * 2000}
        assert record.output is not None and record.output.ref is not None
        assert node.output(record) == [["x" * 100] * 2000, 1]

    on_node(scenario, behave=seen, interfaces={"f": interface(("x", "json"), ("y", "json"))})


def test_a_map_goes_over_a_large_list_without_reading_it_for_each_item(on_node: OnNode) -> None:
    seen = Seen()
    items = [{"text": "x" * 200, "n": n} for n in range(1000)]

    async def scenario(node: RunNode) -> None:
        flow = workflow(
            Each("e", (Input("x"),)),
            CallStep("s", "f", (("x", Item("e")),), Within("e")),
            output=Collected("e", Result("s")),
            inputs=INPUTS,
        )
        read = node.blobs.get
        reads = []
        node.blobs.get = lambda digest: reads.append(digest) or read(digest)  # type: ignore
        record = await node.run(flow, x=items)
        assert node.output(record) == [1] * 1000
        assert len(reads) == 1
        assert sorted(json.loads(c.body)["x"]["n"] for c in seen.calls) == list(range(1000))

    on_node(scenario, behave=seen, interfaces={"f": interface(("x", "json"))})


def test_a_map_goes_over_parts(on_node: OnNode) -> None:
    async def behave(call: Call) -> Answer:
        return raw_answer(call, call.body + b"!", call.content_type)

    async def scenario(node: RunNode) -> None:
        flow = workflow(
            Each("e", (Input("x"),)),
            CallStep("s", "f", (("x", Item("e")),), Within("e")),
            output=ObjectOf((("all", Collected("e", Result("s"))),)),
            inputs=INPUTS,
        )
        run = node.new_run(flow, {"x": [image(b"a"), image(b"b")]})
        record = await node.engine.wait(await node.engine.start(run))
        assert node.output(record) == {
            "all": [
                {"content_type": "image/png", "base64": b64encode(data).decode()}
                for data in (b"a!", b"b!")
            ]
        }

    on_node(scenario, behave=behave, interfaces={"f": interface(("x", "image"))})


def test_what_a_function_streams_is_one_list(on_node: OnNode) -> None:
    streaming = Interface("", (), ResultInterface("json", streaming=True))

    async def scenario(node: RunNode) -> None:
        record = await node.run(workflow(CallStep("s", "f", ()), output=Result("s")))
        assert node.output(record) == [1, {"two": 2}]

    stream = ("text/event-stream", b'data: 1\n\ndata: {"two": 2}\n\n')
    on_node(scenario, behave=Seen(stream), interfaces={"f": streaming})


def test_one_part_is_the_output_as_it_is(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        record = await node.run(one_call(Constant.of(1)))
        assert record.output == image()

    on_node(scenario, behave=Seen(("image/png", PNG)), interfaces={"f": interface(("x", "json"))})


@pytest.mark.parametrize(
    ("value", "true"),
    [
        (of(0), False),
        (of(""), False),
        (of([]), False),
        (of({}), False),
        (of(None), False),
        (of(-0.0), False),
        (of([0]), True),
        (of("false"), True),
        (Blob("text/plain", 0, b""), False),
        (Blob("text/plain", 1, b"0"), True),
        (Blob("image/png", 0, b""), True),
        ([], False),
        ([of(1)], True),
        (of(["x" * 100] * 1000), True),
    ],
)
def test_a_decision_takes_values_as_python_does(on_node: OnNode, value: Any, true: bool) -> None:
    flow = workflow(
        Decide("d", Input("x")),
        output=Choice("d", Constant.of("yes"), Constant.of("no")),
        inputs=INPUTS,
    )

    async def scenario(node: RunNode) -> None:
        run = node.new_run(flow, {"x": value})
        record = await node.engine.wait(await node.engine.start(run))
        assert node.output(record) == ("yes" if true else "no")

    on_node(scenario)


def test_a_member_that_is_not_there_fails_the_step_that_reads_it(on_node: OnNode) -> None:
    async def behave(call: Call) -> Answer:
        return answer_to(call, {"there": 1})

    async def scenario(node: RunNode) -> None:
        flow = workflow(
            CallStep("a", "f", ()),
            CallStep("b", "f", (("x", Field(Result("a"), "gone")),)),
            output=Result("b"),
        )
        record = await node.run(flow)
        assert record.error is not None
        assert "no member 'gone'" in record.error["message"]
        assert record.error["fields"]["step"] == "b"

    on_node(scenario, behave=behave, interfaces={"f": interface(("x", "json"))})


def test_a_blob_that_is_gone_fails_the_run_with_its_name(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        ref = "blob:sha256:" + "0" * 64
        run = node.new_run(one_call(Input("x")), {"x": Blob("application/json", 99_999, ref=ref)})
        record = await node.engine.wait(await node.engine.start(run))
        assert record.error is not None and record.error["error"] == "NotFound"

    on_node(scenario, interfaces={"f": interface(("x", "json"))})


@given(
    st.lists(
        st.none()
        | st.floats(allow_nan=False)
        | st.text(max_size=5)
        | st.lists(st.booleans(), max_size=3)
        | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
        max_size=5,
    )
)
def test_a_list_is_split_into_its_elements(items: list[Any]) -> None:
    for text in (json.dumps(items), json.dumps(items, indent=2), f" {json.dumps(items)}\n"):
        found = [json.loads(b.inline or b"") for b in split(text.encode()) if isinstance(b, Blob)]
        assert found == items


@pytest.mark.parametrize("text", ["", "{}", "1", "[", "[1", "[1,", "[1 2]", "[1,]", "nonsense"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        split(text.encode())


def test_a_list_that_is_too_long_is_not_read_to_its_end() -> None:
    with pytest.raises(InvalidInput, match=f"more than {MAX_ITEMS} items"):
        split(b"[" + b"1," * (MAX_ITEMS + 1) + b"nonsense")
    assert len(split(b"[" + b"1," * (MAX_ITEMS - 1) + b"1]")) == MAX_ITEMS
