"""Results into bytes, and results that are not what the function said."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from dsfn import Event, File, Image, Json, Tensor, Text
from dsfn.functions.codec import (
    check_accept,
    decode_arguments,
    encode_item,
    encode_result,
    stream_content_type,
)
from dsfn.functions.errors import HandlerRaised, NotAcceptable
from dsfn.functions.event import from_document
from dsfn.functions.signature import signature_of

JSON = "application/json"
EVENT = "application/cloudevents+json"
PNG = Image.of(PIL.Image.new("RGB", (2, 2)))


class Guess(BaseModel):
    label: str = Field(alias="class")
    score: float | None


@dataclass
class Box:
    x: int


def anything() -> Json: ...
def guesses() -> list[Guess]: ...
def boxes() -> dict[str, Box]: ...
def number() -> float: ...
def none() -> None: ...
def text() -> Text: ...
def image() -> Image: ...
def maybe_image() -> Image | None: ...
def file() -> File: ...
def tensor() -> Tensor: ...
def event() -> Event: ...
def numbers() -> Iterator[int]: ...
def words() -> Iterator[Text]: ...
def images() -> Iterator[Image]: ...
def events() -> Iterator[Event]: ...


def encode(target: Callable[..., object], value: object, accept: str = "*/*") -> tuple[str, bytes]:
    encoded = encode_result(signature_of(target), value, accept)
    return encoded.content_type, encoded.body


def refusal(target: Callable[..., object], value: object) -> str:
    with pytest.raises(HandlerRaised) as caught:
        encode(target, value)
    assert caught.value.message.startswith(f"What '{target.__name__}' returned cannot be sent: ")
    return caught.value.message


def test_json_results_are_json_with_aliases() -> None:
    value = [Guess.model_validate({"class": "cat", "score": 0.5})]
    assert encode(guesses, value) == (JSON, b'[{"class":"cat","score":0.5}]')
    assert (
        encode(guesses, [{"class": "cat", "score": None}])[1] == b'[{"class":"cat","score":null}]'
    )
    assert encode(boxes, {"a": Box(1)})[1] == b'{"a":{"x":1}}'
    assert encode(none, None) == (JSON, b"null")


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
        ),
        max_leaves=20,
    )
)
@settings(deadline=None)
def test_any_json_value_makes_the_round_trip(value: Any) -> None:
    def echo(value: Json) -> Json: ...

    body = b'{"value":' + encode(echo, value)[1] + b"}"
    refused = lambda reference: (b"", "")  # noqa: E731
    assert decode_arguments(signature_of(echo), JSON, body, refused) == {"value": value}


def test_parts_have_their_content_types() -> None:
    assert encode(text, Text("é")) == ("text/plain; charset=utf-8", "é".encode())
    assert encode(text, "plain str") == ("text/plain; charset=utf-8", b"plain str")
    assert encode(image, PNG) == ("image/png", PNG.data)
    assert encode(file, File(b"x", "text/x-notes")) == ("text/x-notes", b"x")
    values = Tensor.of([1.0, 2.0])
    assert encode(tensor, values) == ("application/vnd.safetensors", values.encoded())
    assert encode(maybe_image, None) == (JSON, b"null")


def test_an_event_is_structured() -> None:
    value = Event.of(type="t", data={"a": 1})
    content_type, body = encode(event, value)
    assert content_type == EVENT
    assert from_document(json.loads(body)) == value


def test_a_client_that_wants_json_gets_parts_as_base64() -> None:
    content_type, body = encode(image, PNG, JSON)
    assert content_type == JSON
    assert json.loads(body) == {
        "base64": b64encode(PNG.data).decode(),
        "content_type": "image/png",
    }
    assert encode(text, "a", JSON) == (JSON, b'"a"')
    named = json.loads(encode(file, File(b"x", "", "f"), JSON)[1])
    assert named["name"] == "f"
    assert encode(file, File(b"{}", JSON), JSON) == (JSON, b"{}")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "image/png"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("application/json;q=0.5, image/png", "image/png"),
        ("application/json, image/png;q=0.5", JSON),
        ("text/html, application/json, */*;q=0.1", JSON),
        ("image/png;q=0, */*", JSON),
        ("application/*", JSON),
    ],
)
def test_the_client_chooses_by_quality(accept: str, chosen: str) -> None:
    assert encode(image, PNG, accept)[0] == chosen


@pytest.mark.parametrize(
    ("target", "value", "accept"),
    [
        (image, PNG, "text/html"),
        (image, PNG, "image/jpeg"),
        (anything, 1, "text/plain"),
        (anything, 1, "application/json;q=0"),
        (text, "a", "image/*;q=nonsense"),
        (event, Event.of(type="t"), "image/png"),
    ],
)
def test_a_client_that_takes_no_form_of_the_result_is_told_which_there_are(
    target: Callable[..., object], value: object, accept: str
) -> None:
    with pytest.raises(NotAcceptable) as caught:
        encode(target, value, accept)
    assert JSON in str(caught.value.fields["available"])
    assert caught.value.fields["accept"] == accept


def test_what_can_never_be_accepted_is_known_before_the_call() -> None:
    check_accept(signature_of(image).outline.result, "image/jpeg")
    check_accept(signature_of(image).outline.result, "*/*")
    check_accept(signature_of(numbers).outline.result, "text/event-stream")
    for target, accept in ((image, "text/html"), (numbers, "image/png"), (tensor, "image/*")):
        with pytest.raises(NotAcceptable):
            check_accept(signature_of(target).outline.result, accept)


@pytest.mark.parametrize(
    ("target", "value", "path"),
    [
        (number, float("nan"), ""),
        (anything, {"a": [1.0, float("inf")]}, "a.1"),
        (guesses, [Guess.model_validate({"class": "cat", "score": float("nan")})], "0.score"),
    ],
)
def test_nan_in_a_result_is_refused_by_path(
    target: Callable[..., object], value: object, path: str
) -> None:
    message = refusal(target, value)
    assert "NaN or infinity" in message
    assert f"'{path}'" in message or not path


@pytest.mark.parametrize(
    ("target", "value", "sentence"),
    [
        (number, "x", "'result' does not fit: input should be a valid number"),
        (guesses, [{"class": "cat"}], "'result.0.score' is missing"),
        (none, 1, "'result' does not fit"),
        (image, b"bytes", "it is a bytes, not Image."),
        (image, PIL.Image.new("L", (1, 1)), "it is a PIL.Image, not Image. Wrap it with Image.of"),
        (tensor, np.ones(2), "it is a numpy.ndarray, not Tensor. Wrap it with Tensor.of"),
        (tensor, torch.ones(2), "it is a torch.Tensor, not Tensor. Wrap it with Tensor.of"),
        (text, 3, "it is a int, not Text."),
        (event, {"type": "t"}, "it is a dict, not an Event."),
        (anything, {"a": np.ones(2)}, "Return a Tensor, or plain numbers by .tolist() or float()"),
        (anything, np.float32(1), "Return a Tensor, or plain numbers"),
        (anything, {"a": torch.ones(2)}, "Return a Tensor, or plain numbers"),
        (number, torch.ones(2), "Return a Tensor, or plain numbers"),
        (anything, {"a": b"\xff"}, "invalid utf-8"),
        (anything, object(), "Unable to serialize unknown type"),
        (number, PNG, "Annotate the result as Image."),
        (anything, PNG, "Annotate the result as Image."),
    ],
)
def test_a_result_of_another_type_is_refused_with_a_sentence(
    target: Callable[..., object], value: object, sentence: str
) -> None:
    assert sentence in refusal(target, value)


def test_a_result_that_holds_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    assert "Circular reference" in refusal(anything, value)


def test_streams_are_server_sent_events_or_raw_chunks() -> None:
    assert stream_content_type(signature_of(numbers).result.kind) == "text/event-stream"
    assert stream_content_type(signature_of(words).result.kind) == "text/event-stream"
    assert stream_content_type(signature_of(events).result.kind) == "text/event-stream"
    assert stream_content_type(signature_of(images).result.kind) == "application/octet-stream"
    assert encode_item(signature_of(numbers), 5) == b"data: 5\n\n"
    assert encode_item(signature_of(words), "a\r\nb\n") == b"data: a\ndata: b\ndata: \n\n"
    assert encode_item(signature_of(images), PNG) == PNG.data
    item = encode_item(signature_of(events), Event.of(type="t", data="line\nbreak"))
    assert item.startswith(b"data: {") and item.count(b"\n") == 2


def test_an_item_of_another_type_is_refused() -> None:
    with pytest.raises(HandlerRaised, match="cannot be sent"):
        encode_item(signature_of(numbers), "five")
