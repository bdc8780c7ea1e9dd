"""What a run gives when its workflow says that it gives text."""

from __future__ import annotations

import json

import pytest

from dsfn.functions.workflow.dag import WorkflowResult
from dsfn.runtime.workflows.bodies import output_blob
from dsfn.runtime.workflows.model import Blob
from dsfn.runtime.workflows.values import json_blob

TEXT = WorkflowResult("text")


def load(blob: Blob) -> bytes:
    assert blob.inline is not None
    return blob.inline


@pytest.mark.parametrize("text", ["", "plain", 'é "quoted"\n'])
def test_a_json_string_is_the_text_that_it_holds(text: str) -> None:
    given = output_blob(json_blob(json.dumps(text).encode()), load, 1000, TEXT)
    assert given.content_type.startswith("text/plain")
    assert given.inline == text.encode()
    assert given.size_bytes == len(text.encode())


@pytest.mark.parametrize("document", [b"null", b"1", b'{"a":"b"}'])
def test_json_that_is_no_string_stays_what_it_is(document: bytes) -> None:
    value = json_blob(document)
    assert output_blob(value, load, 1000, TEXT) == value


def test_a_json_string_stays_one_where_no_text_is_declared() -> None:
    value = json_blob(b'"text"')
    assert output_blob(value, load, 1000) == value
    assert output_blob(value, load, 1000, WorkflowResult("json")) == value
