"""Request bodies into arguments, and every way in which they can be wrong."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dsfn import Audio, Event, File, Image, Json, Tensor, Text, Video
from dsfn.functions.codec import Limits, decode_arguments
from dsfn.functions.errors import (
    DsfnError,
    InvalidInput,
    MalformedBody,
    NotFound,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from dsfn.functions.event import to_document
from dsfn.functions.signature import signature_of

JSON = "application/json"
EVENT = "application/cloudevents+json"
PNG = Image.of(PIL.Image.new("RGB", (5, 4))).data
WAV = Audio.of(np.zeros(8, np.float32), 8_000).data
STORED = {
    "blob:png": (PNG, "image/png"),
    "blob:raw": (PNG, "application/octet-stream"),
    "blob:wrong": (PNG, "text/plain"),
    "https://web/png": (PNG, "image/png"),
}


class Item(BaseModel):
    sku: str
    price: float


@dataclass
class Window:
    start: date
    days: int = 1


def price(items: list[Item], window: Window | None = None, rate: float = 1.0) -> float: ...
def echo(value: Json) -> Json: ...
def nothing() -> None: ...
def defaults(a: int = 1, b: int = 2) -> int: ...
def classify(image: Image) -> Json: ...
def maybe(image: Image | None = None) -> Json: ...
def listen(audio: Audio) -> Json: ...
def watch(video: Video) -> Json: ...
def read(text: Text) -> Json: ...
def keep(file: File) -> Json: ...
def invert(tensor: Tensor) -> Tensor: ...
def compose(image: Image, caption: Text, top: int = 3, tags: list[str] | None = None) -> Json: ...
def handle(event: Event) -> None: ...
def handle_image(event: Event, image: Image) -> None: ...


def fetch(reference: str) -> tuple[bytes, str]:
    if reference not in STORED:
        raise NotFound("There is no such blob.", kind="blob", name=reference)
    return STORED[reference]


def decode(
    target: Callable[..., object],
    body: bytes | memoryview | object,
    content_type: str = JSON,
    limits: Limits | None = None,
) -> dict[str, Any]:
    raw = body if isinstance(body, bytes | memoryview) else json.dumps(body).encode()
    return decode_arguments(signature_of(target), content_type, raw, fetch, limits or Limits())


def refusal(
    kind: type[DsfnError], target: Callable[..., object], body: object, content_type: str = JSON
) -> DsfnError:
    with pytest.raises(kind) as caught:
        decode(target, body, content_type)
    assert type(caught.value) is kind
    return caught.value


def form(*fields: tuple[str, bytes, str]) -> tuple[bytes, str]:
    out = BytesIO()
    for disposition, data, content_type in fields:
        out.write(b"--edge\r\nContent-Disposition: form-data; " + disposition.encode() + b"\r\n")
        if content_type:
            out.write(b"Content-Type: " + content_type.encode() + b"\r\n")
        out.write(b"\r\n" + data + b"\r\n")
    out.write(b"--edge--\r\n")
    return out.getvalue(), "multipart/form-data; boundary=edge"


def test_a_json_object_gives_models_dataclasses_and_plain_values() -> None:
    body = {"items": [{"sku": "a", "price": 2}], "window": {"start": "2026-01-31"}}
    assert decode(price, body) == {
        "items": [Item(sku="a", price=2.0)],
        "window": Window(date(2026, 1, 31)),
    }


def test_defaults_are_left_to_the_function() -> None:
    assert decode(defaults, {"b": 5}) == {"b": 5}
    assert decode(defaults, b"", "") == {}
    assert decode(maybe, b"") == {}


def test_no_parameters_take_an_empty_body_or_an_empty_object() -> None:
    assert decode(nothing, b"", "") == decode(nothing, b"") == decode(nothing, b"{}") == {}
    assert refusal(InvalidInput, nothing, {"x": 1}).fields["field"] == "x"


def test_a_memoryview_is_as_good_as_bytes() -> None:
    assert decode(echo, memoryview(b'{"value":[1]}')) == {"value": [1]}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@given(json_values)
@settings(deadline=None)
def test_any_json_value_arrives_as_it_was_sent(value: Any) -> None:
    assert decode(echo, json.dumps({"value": value}).encode()) == {"value": value}


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_no_bytes_raise_anything_but_the_callers_mistakes(body: bytes) -> None:
    targets: list[tuple[Callable[..., object], str]] = [
        (price, JSON),
        (compose, JSON),
        (compose, "multipart/form-data; boundary=edge"),
        (classify, "image/png"),
        (listen, "audio/wav"),
        (invert, "application/vnd.safetensors"),
        (read, "text/plain"),
        (handle, EVENT),
    ]
    for target, content_type in targets:
        try:
            decode(target, body, content_type)
        except (InvalidInput, MalformedBody):
            continue


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"items": [{"sku": "a", "price": 1}, {"sku": "b", "price": "x"}]}, "items.1.price"),
        ({"items": [{"sku": "a"}]}, "items.0.price"),
        ({"items": []} | {"rate": "1"}, "rate"),
        ({"items": [], "rate": True}, "rate"),
        ({"items": {}}, "items"),
        ({}, "items"),
        ({"items": [], "other": 1}, "other"),
        ([], "body"),
        ("text", "body"),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_its_path(body: object, field: str) -> None:
    error = refusal(InvalidInput, price, body)
    assert error.fields["field"] == field
    errors = error.fields["errors"]
    assert isinstance(errors, list) and errors[0]["field"] == field
    assert f"'{field}'" in error.message


def test_every_value_that_does_not_fit_is_listed_up_to_a_limit() -> None:
    errors = refusal(InvalidInput, price, {"items": [{}] * 50}).fields["errors"]
    assert isinstance(errors, list)
    assert [e["field"] for e in errors[:2]] == ["items.0.sku", "items.0.price"]
    assert len(errors) == 20


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"value": NaN}', "value"),
        ('{"value": {"a": [1, {"b": -Infinity}]}}', "value.a.1.b"),
        ('{"value": [0.5, 1e999]}', "value.1"),
        ('{"value": 1E+400}', "value"),
        ('{"value": -' + "9" * 400 + ".0}", "value"),
        ('{"value": ' + "9" * 250 + "e99}", "value"),
    ],
)
def test_nan_and_infinity_are_refused_by_path_however_spelled(text: str, path: str) -> None:
    assert refusal(InvalidInput, echo, text.encode()).fields["field"] == path


@pytest.mark.parametrize("value", ["NaN", "Infinity", "e123", 1e300, 5e-324, 10**250, "9" * 400])
def test_what_only_looks_like_nan_or_infinity_passes(value: object) -> None:
    assert decode(echo, {"value": value}) == {"value": value}


def nested(levels: int) -> bytes:
    return b'{"flat": 1, "value": ' + b"[" * levels + b"]" * levels + b"}"


@pytest.mark.parametrize("levels", [64, 150, 100_000])
def test_deep_json_is_refused_and_names_the_field(levels: int) -> None:
    error = refusal(InvalidInput, echo, nested(levels))
    assert error.fields["field"] == "value"
    assert "deeper than 64 levels" in error.message


def test_wide_json_is_not_deep() -> None:
    value = [{"a": [i, "]]]"]} for i in range(500)]
    assert decode(echo, {"value": value}) == {"value": value}
    deepest = b'{"value": ' + b"[" * 63 + b"]" * 63 + b"}"
    assert "value" in decode(echo, deepest)


@pytest.mark.parametrize("target", [price, compose])
def test_malformed_json_says_where(target: Callable[..., object]) -> None:
    error = refusal(MalformedBody, target, b'{"items":\n  [1, tru]}')
    assert (error.fields["line"], error.fields["column"]) == (2, 10)


def test_a_body_over_the_limit_is_refused() -> None:
    with pytest.raises(PayloadTooLarge) as caught:
        decode(echo, {"value": "x" * 100}, limits=Limits(max_body_bytes=99))
    assert caught.value.fields["limit_bytes"] == 99


@pytest.mark.parametrize(
    ("target", "body", "content_type"),
    [
        (classify, PNG, "image/png"),
        (classify, PNG, "IMAGE/PNG; q=1"),
        (listen, WAV, "audio/wav"),
        (watch, b"film", "video/mp4"),
        (read, "héllo".encode(), "text/plain; charset=utf-8"),
        (read, b"", "text/plain"),
        (keep, b"bytes", "application/x-anything"),
        (keep, b"bytes", ""),
        (invert, Tensor.of([1, 2]).encoded(), "application/vnd.safetensors"),
    ],
)
def test_a_single_part_takes_the_raw_body(
    target: Callable[..., object], body: bytes, content_type: str
) -> None:
    [value] = decode(target, body, content_type).values()
    assert value.encoded() == body


def test_text_is_read_in_the_character_set_that_it_says() -> None:
    assert decode(read, b"\xe9", "text/plain; charset=ISO-8859-1") == {"text": "é"}
    assert refusal(MalformedBody, read, b"\xe9", "text/plain").fields["field"] == "text"
    error = refusal(UnsupportedMediaType, read, b"a", "text/plain; charset=idna")
    assert error.fields["field"] == "text"


@pytest.mark.parametrize(
    ("target", "content_type", "expected"),
    [
        (classify, "text/plain", ["image/*", JSON, EVENT]),
        (price, "text/plain", [JSON, EVENT]),
        (price, "", [JSON, EVENT]),
        (price, "multipart/form-data; boundary=edge", [JSON, EVENT]),
        (compose, "image/png", ["multipart/form-data", JSON, EVENT]),
        (nothing, "application/x-www-form-urlencoded", [JSON, EVENT]),
    ],
)
def test_another_content_type_is_refused_with_those_expected(
    target: Callable[..., object], content_type: str, expected: list[str]
) -> None:
    error = refusal(UnsupportedMediaType, target, b"x", content_type)
    assert error.fields["expected"] == expected
    assert error.fields["content_type"] == content_type


@pytest.mark.parametrize(
    ("target", "body", "content_type"),
    [
        (classify, PNG[:40], "image/png"),
        (classify, b"not an image", "image/png"),
        (listen, b"not audio", "audio/wav"),
        (invert, b"not a tensor", "application/vnd.safetensors"),
    ],
)
def test_damaged_parts_are_refused_and_named(
    target: Callable[..., object], body: bytes, content_type: str
) -> None:
    [name] = signature_of(target).by_name
    assert refusal(InvalidInput, target, body, content_type).fields["field"] == name


def test_an_image_of_200_megapixels_is_refused_and_named() -> None:
    out = BytesIO()
    PIL.Image.new("1", (20_000, 10_000)).save(out, "PNG")
    error = refusal(InvalidInput, classify, out.getvalue(), "image/png")
    assert error.fields["field"] == "image"


@pytest.mark.parametrize(
    "value",
    [
        b64encode(PNG).decode(),
        {"base64": b64encode(PNG).decode()},
        {"base64": b64encode(PNG).decode(), "content_type": "image/png"},
        {"$ref": "blob:png"},
        {"$ref": "blob:raw"},
        {"$ref": "blob:wrong", "content_type": "image/png"},
        {"$ref": "blob:png", "content_type": None, "name": None},
    ],
)
def test_json_takes_parts_as_base64_or_by_reference(value: object) -> None:
    body = {"image": value, "caption": "hi", "tags": ["a"]}
    given = decode(compose, body)
    assert given == {"image": Image(PNG, "image/png"), "caption": "hi", "tags": ["a"]}
    assert isinstance(given["caption"], Text)
    assert decode(classify, {"image": value}) == {"image": Image(PNG)}


def test_a_file_in_json_keeps_its_name() -> None:
    value = {"base64": "YQ==", "content_type": "text/x-notes", "name": "notes.txt"}
    assert decode(keep, {"file": value}) == {"file": File(b"a", "text/x-notes", "notes.txt")}


def test_a_reference_may_say_the_content_type_and_the_name() -> None:
    value = {"$ref": "blob:raw", "content_type": "image/x-mine", "name": "mine.png"}
    assert decode(keep, {"file": value}) == {"file": File(PNG, "image/x-mine", "mine.png")}
    error = refusal(UnsupportedMediaType, classify, {"image": {"$ref": "blob:wrong"}})
    assert (error.fields["field"], error.fields["content_type"]) == ("image", "text/plain")


def test_what_looks_like_a_reference_is_a_value_where_json_is_wanted() -> None:
    assert decode(echo, {"value": {"$ref": "blob:png"}}) == {"value": {"$ref": "blob:png"}}


def test_null_is_a_part_only_where_none_is() -> None:
    assert decode(maybe, {"image": None}) == {"image": None}
    assert refusal(InvalidInput, classify, {"image": None}).fields["field"] == "image"


@pytest.mark.parametrize(
    "value",
    [
        7,
        "not base64!",
        {"base64": 3},
        {"base64": "", "colour": "red"},
        {"$ref": "blob:gone"},
        {"$ref": "blob:png", "base64": ""},
        {"$ref": "blob:png", "content_type": 7},
        {"$ref": "blob:png", "name": ["a"]},
        {"$ref": "blob:png", "colour": "red"},
    ],
)
def test_a_part_in_json_that_does_not_fit_is_named(value: object) -> None:
    error = refusal(InvalidInput, compose, {"image": value, "caption": "hi"})
    assert error.fields["field"] == "image"


def test_a_part_in_json_of_another_content_type_is_refused() -> None:
    value = {"base64": "YQ==", "content_type": "text/plain"}
    error = refusal(UnsupportedMediaType, compose, {"image": value, "caption": ""})
    assert (error.fields["field"], error.fields["expected"]) == ("image", ["image/*"])


def test_names_beside_parts_are_checked_too() -> None:
    image = b64encode(PNG).decode()
    assert refusal(InvalidInput, compose, {"image": image}).fields["field"] == "caption"
    body = {"image": image, "caption": "", "other": 1}
    assert refusal(InvalidInput, compose, body).fields["field"] == "other"
    body = {"image": image, "caption": "", "top": "x"}
    assert refusal(InvalidInput, compose, body).fields["field"] == "top"


def test_references_count_towards_the_limit() -> None:
    body = {"image": {"$ref": "blob:png"}, "caption": ""}
    with pytest.raises(PayloadTooLarge):
        decode(compose, body, limits=Limits(max_body_bytes=len(PNG) - 1))


def test_a_form_takes_parts_json_texts_and_plain_text() -> None:
    body, content_type = form(
        ('name="image"; filename="a.png"', PNG, "image/png"),
        ('name="caption"', "héllo".encode(), ""),
        ('name="top"', b"5", ""),
        ('name="tags"', b'["a", "b"]', JSON),
    )
    given = decode(compose, body, content_type)
    assert given == {"image": Image(PNG), "caption": "héllo", "top": 5, "tags": ["a", "b"]}


def test_a_form_gives_strings_as_they_look() -> None:
    def post(title: str, file: File) -> None: ...

    for raw, title in ((b"hello", "hello"), (b'"hello"', "hello"), (b"5", "5"), (b"", "")):
        body, content_type = form(('name="title"', raw, ""), ('name="file"; filename="f"', b"", ""))
        given = decode(post, body, content_type)
        assert given["title"] == title
        assert given["file"].name == "f"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ([('name="caption"', b"a", "")], "image"),
        ([('name="caption"', b"a", ""), ('name="caption"', b"b", "")], "caption"),
        ([('name="other"', b"a", "")], "other"),
        ([('name="top"', b"five", "")], "top"),
        ([('name="top"', b"[5]", "")], "top"),
        ([('name="tags"', b"[1]", "")], "tags.0"),
        ([('name="tags"', b"[NaN]", "")], "tags.0"),
        ([('name="image"', b"?", "")], "image"),
    ],
)
def test_a_form_field_that_does_not_fit_is_named(
    fields: list[tuple[str, bytes, str]], field: str
) -> None:
    body, content_type = form(*fields)
    error = refusal(InvalidInput, compose, body, content_type)
    assert error.fields["field"] == field
    assert f"'{field}'" in error.message


def test_a_form_field_of_json_must_be_json() -> None:
    body, content_type = form(('name="tags"', b"[1,", JSON))
    assert refusal(MalformedBody, compose, body, content_type).fields["field"] == "tags"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "multipart/form-data; boundary=edge"),
        (b"x", "multipart/form-data"),
        (form(('name="top"', b"5", ""))[0][:-12], "multipart/form-data; boundary=edge"),
        (form(('nothing="top"', b"5", ""))[0], "multipart/form-data; boundary=edge"),
        (form(*[('name="top"', b"5", "")] * 300)[0], "multipart/form-data; boundary=edge"),
    ],
)
def test_a_damaged_form_is_malformed(body: bytes, content_type: str) -> None:
    refusal(MalformedBody, compose, body, content_type)


def event_body(**changes: Any) -> bytes:
    event = Event.of(type="t", source="/s", id="1", **changes)
    return json.dumps(to_document(event)).encode()


def test_an_event_parameter_takes_the_event_itself() -> None:
    given = decode(handle, event_body(data={"a": 1}), EVENT)
    assert given["event"].json() == {"a": 1}
    direct = decode(handle, {"event": json.loads(event_body(data="x"))})
    assert direct["event"].json() == "x"


def test_other_parameters_come_from_the_data_of_the_event() -> None:
    assert decode(echo, event_body(data={"value": [1]}), EVENT) == {"value": [1]}
    assert decode(classify, event_body(data=Image(PNG)), EVENT) == {"image": Image(PNG)}
    both = decode(handle_image, event_body(data=Image(PNG)), EVENT + "; charset=utf-8")
    assert both["image"] == Image(PNG)
    assert both["event"].id == "1"


def test_the_data_of_an_event_may_be_a_reference() -> None:
    assert decode(classify, event_body(dataref="blob:png"), EVENT) == {"image": Image(PNG)}
    error = refusal(InvalidInput, classify, event_body(dataref="blob:gone"), EVENT)
    assert error.fields["field"] == "dataref"


def test_the_type_that_an_event_says_goes_before_the_one_that_its_data_were_stored_as() -> None:
    body = event_body(dataref="blob:wrong", datacontenttype="image/png")
    assert decode(classify, body, EVENT) == {"image": Image(PNG)}


def test_an_event_whose_data_the_node_keeps_has_them_when_it_arrives() -> None:
    given = decode(handle, event_body(dataref="blob:png"), EVENT)
    assert (given["event"].data, given["event"].datacontenttype) == (PNG, "image/png")
    assert given["event"].attribute("dataref") == "blob:png"
    direct = decode(handle, {"event": json.loads(event_body(dataref="blob:png"))})
    assert direct["event"].data == PNG
    both = decode(handle_image, event_body(dataref="blob:png"), EVENT)
    assert both["event"].data == both["image"].data == PNG
    error = refusal(InvalidInput, handle, event_body(dataref="blob:gone"), EVENT)
    assert error.fields["field"] == "dataref"


def test_an_event_that_refers_to_the_web_is_left_as_it_is_where_the_event_is_all() -> None:
    given = decode(handle, event_body(dataref="https://web/png"), EVENT)
    assert given["event"].data == b""


def test_an_event_without_data_leaves_the_defaults() -> None:
    assert decode(defaults, event_body(), EVENT) == {}
    assert refusal(InvalidInput, echo, event_body(), EVENT).fields["field"] == "value"


def test_a_broken_event_names_the_attribute() -> None:
    body = {"specversion": "1.0", "id": "1", "type": "t"}
    assert refusal(InvalidInput, handle, body, EVENT).fields["field"] == "source"
    assert refusal(MalformedBody, handle, b"{", EVENT).fields["field"] == "event"
    assert refusal(UnsupportedMediaType, handle, b"x", "text/plain")


def test_the_data_of_an_event_of_a_wrong_content_type_is_refused() -> None:
    refusal(UnsupportedMediaType, classify, event_body(data=b"x"), EVENT)
