"""A stream as one value: the one that a plain call of a workflow's body gets."""

from __future__ import annotations

import json

from album import count, words
from hypothesis import given
from hypothesis import strategies as st

from dsfn.functions.encode import encode_item
from dsfn.functions.workflow.streams import whole_stream


@given(st.lists(st.integers()))
def test_a_stream_of_json_is_the_list_of_its_items(items: list[int]) -> None:
    body = b"".join(encode_item(count.signature, item) for item in items)
    content_type, whole = whole_stream("json", body)
    assert (content_type, json.loads(whole)) == ("application/json", items)


@given(st.lists(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]))))
def test_a_stream_of_text_is_its_text(items: list[str]) -> None:
    body = b"".join(encode_item(words.signature, item) for item in items)
    content_type, whole = whole_stream("text", body)
    assert content_type.startswith("text/plain")
    assert whole.decode() == "".join(items)
