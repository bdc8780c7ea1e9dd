"""Plain types are checked as pydantic checks them, without it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Optional

import pytest
from pydantic import BaseModel, TypeAdapter
from pydantic_core import ValidationError

from dsfn.functions.adapters import _object_adapter, object_adapter
from dsfn.functions.plain import PlainAdapter, plain_object, plain_schema

PLAIN = [
    str,
    int,
    float,
    bool,
    type(None),
    Any,
    list[str],
    list[dict[str, float]],
    dict[str, Any],
    dict[int, list[bool]],
    str | None,
    Optional[list[float]],  # noqa: UP045
    str | int,
    str | list[int] | None,
]
TEXTS = [
    b'"a"',
    b"1",
    b"1.5",
    b"true",
    b"null",
    b"[1,2]",
    b'["a",1]',
    b'{"a":1.5}',
    b'{"1":[true]}',
]


class Model(BaseModel):
    number: int


@pytest.mark.parametrize("annotation", PLAIN, ids=str)
def test_a_plain_type_has_pydantics_schema(annotation: Any) -> None:
    assert plain_schema(annotation) == TypeAdapter(annotation).core_schema


@pytest.mark.parametrize("annotation", [Model, tuple[int, int], set[str], list[Model], int | Model])
def test_other_types_are_left_to_pydantic(annotation: Any) -> None:
    assert plain_schema(annotation) is None
    assert plain_object({"value": (annotation, True), "name": (str, True)}) is None
    assert isinstance(object_adapter("f", {"value": (annotation, True)}), TypeAdapter)


@pytest.mark.parametrize("annotation", PLAIN, ids=str)
@pytest.mark.parametrize("text", TEXTS)
def test_an_object_is_read_and_written_as_pydantic_does(annotation: Any, text: bytes) -> None:
    fields = {"value": (annotation, True), "other": (annotation, False)}
    ours, theirs = object_adapter("f", fields), _object_adapter("f", fields)
    assert isinstance(ours, PlainAdapter)
    for body in (b'{"value":%s}' % text, b'{"other":%s,"more":1}' % text, text, b"{"):
        assert _said(ours, body) == _said(theirs, body)


def _said(adapter: Any, body: bytes) -> object:
    try:
        value = adapter.validate_json(body, strict=True)
    except ValidationError as error:
        return error.errors(include_url=False)
    checked = adapter.validate_python(value)
    return value, adapter.dump_json(checked, by_alias=True), adapter.dump_python(checked)


def test_a_function_of_plain_types_is_served_without_pydantic() -> None:
    program = (
        "import sys; from dsfn.runtime.worker.rehearsal import rehearse; rehearse([]);"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "pydantic_core" in loaded
    assert not loaded & {"pydantic", "importlib.metadata"}
