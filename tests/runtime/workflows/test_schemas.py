"""Values against their schemas: the quick look agrees with the validator."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dsfn.functions.errors import InvalidInput
from dsfn.runtime.workflows.schemas import check_value, fits_plainly

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KINDS = st.sampled_from(["boolean", "integer", "null", "number", "string", "array", "object"])
PLAIN = st.fixed_dictionaries({"type": KINDS | st.lists(KINDS, min_size=1, unique=True)})
SCHEMAS = (
    PLAIN
    | st.fixed_dictionaries({"type": KINDS, "items": PLAIN, "title": st.text()})
    | st.just({"type": "array", "items": {"type": "integer", "minimum": 3}})
    | st.just({"items": True, "type": "array"})
)


@given(SCHEMAS, SCALARS | st.lists(SCALARS, max_size=4) | st.just({}))
def test_what_is_taken_at_once_fits(schema: dict[str, Any], value: Any) -> None:
    if fits_plainly(schema, value):
        assert Draft202012Validator(schema).is_valid(value)


def test_a_long_list_is_checked_soon_and_one_wrong_item_is_named() -> None:
    numbers: list[Any] = list(range(300_000))
    schema = {"type": "array", "items": {"type": "integer"}}
    begun = time.monotonic()
    check_value(schema, numbers, "numbers")
    assert time.monotonic() - begun < 1
    with pytest.raises(InvalidInput, match=r"'numbers\.2' does not fit"):
        check_value(schema, [1, 2, "3"], "numbers")
