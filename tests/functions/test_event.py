"""CloudEvents: the specification's rules, the JSON format, filters."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsfn import Event, Image
from dsfn.functions.errors import InvalidInput
from dsfn.functions.event import Filter, from_document, to_document

MINIMAL: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}

plain = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=8,
)
extensions = st.dictionaries(
    st.from_regex(r"x[a-z0-9]{0,10}", fullmatch=True),
    plain | st.booleans() | st.integers(-(2**31), 2**31 - 1),
    max_size=3,
)


@given(
    st.builds(
        Event,
        id=plain,
        source=plain,
        type=plain,
        subject=st.none() | plain,
        time=st.none() | st.just("2026-11-22T06:00:00.5+01:00"),
        datacontenttype=st.sampled_from(["image/png", "text/plain", "application/octet-stream"]),
        dataschema=st.none() | plain,
        data=st.binary(max_size=40),
        extensions=extensions,
    )
)
def test_every_event_survives_the_json_format(event: Event) -> None:
    text = json.dumps(to_document(event))
    assert from_document(json.loads(text)) == event


@given(json_values)
def test_json_data_survives_the_json_format(value: Any) -> None:
    event = Event.of(type="t", data={"value": value})
    again = from_document(json.loads(json.dumps(to_document(event))))
    assert again.json() == {"value": value}
    assert again.datacontenttype == "application/json"


def test_an_event_made_here_has_an_id_and_a_time() -> None:
    first, second = Event.of(type="t"), Event.of(type="t")
    assert first.id != second.id
    assert first.time is not None and first.time.endswith("Z")
    assert (first.data, first.datacontenttype) == (b"", None)


def test_a_part_is_data_with_its_content_type() -> None:
    event = Event.of(type="t", data=Image(b"\x89PNG\r\n\x1a\n"), traceparent="00-1")
    assert event.datacontenttype == "image/png"
    assert "data_base64" in to_document(event)
    assert event.attribute("traceparent") == "00-1"


def test_text_stays_text_and_json_without_a_content_type_stays_json() -> None:
    text = from_document({**MINIMAL, "datacontenttype": "text/plain", "data": "héllo"})
    assert text.data == "héllo".encode()
    assert to_document(text)["data"] == "héllo"
    bare = from_document({**MINIMAL, "data": {"a": [1, 2]}})
    assert bare.data == b'{"a":[1,2]}'
    assert to_document(bare) == {**MINIMAL, "data": {"a": [1, 2]}}


def test_data_that_is_not_what_its_content_type_says_travels_as_base64() -> None:
    event = Event(id="1", source="/s", type="t", datacontenttype="application/json", data=b"{NaN")
    assert from_document(to_document(event)) == event


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_a_missing_required_attribute_is_named(name: str) -> None:
    document = {key: value for key, value in MINIMAL.items() if key != name}
    with pytest.raises(InvalidInput) as caught:
        from_document(document)
    assert caught.value.fields["field"] == name


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"source": "a\r\nSet-Cookie: x"}, "source"),
        ({"type": "x" * 10_000}, "type"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-11-22T25:00:00Z"}, "time"),
        ({"datacontenttype": "png"}, "datacontenttype"),
        ({"Bad-Name": "x"}, "Bad-Name"),
        ({"big": 2**31}, "big"),
        ({"nested": {"a": 1}}, "nested"),
        ({"data": 1, "data_base64": "AA=="}, "data"),
        ({"data_base64": "?"}, "data_base64"),
        ({"data_base64": 3}, "data_base64"),
        ({f"x{i}": "" for i in range(65)}, "event"),
    ],
)
def test_what_the_specification_forbids_is_refused_by_name(
    changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        from_document({**MINIMAL, **changes})
    assert caught.value.fields["field"] == field


def test_a_document_that_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidInput, match="must be a JSON object"):
        from_document([MINIMAL])


def test_data_with_nan_is_refused_when_an_event_is_made() -> None:
    with pytest.raises(InvalidInput, match="has no JSON form"):
        Event.of(type="t", data={"x": float("nan")})


def test_a_null_attribute_is_an_absent_one() -> None:
    assert from_document({**MINIMAL, "subject": None}).subject is None


def test_data_that_is_not_json_says_so() -> None:
    with pytest.raises(InvalidInput, match="'data' is not JSON"):
        Event.of(type="t", data=b"\xff").json()


def test_filters_need_every_condition_to_hold() -> None:
    event = Event.of(type="photo.uploaded", source="/bucket/a", subject="cat.png", size=3, hot=True)
    assert Filter().matches(event)
    assert Filter({"type": "photo.uploaded", "size": "3", "hot": "true"}).matches(event)
    assert Filter(prefix={"source": "/bucket/"}, suffix={"subject": ".png"}).matches(event)
    assert not Filter({"type": "photo.uploaded"}, suffix={"subject": ".jpg"}).matches(event)
    assert not Filter({"absent": "x"}).matches(event)
    assert not Filter(prefix={"absent": "x"}).matches(event)


def test_a_filter_survives_its_interface() -> None:
    trigger = Filter({"type": "a"}, {"source": "/b"}, {"subject": ".c"})
    assert Filter.of(trigger.interface()) == trigger
