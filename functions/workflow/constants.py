"""Values that are written into a workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsfn.functions.event import Event
from dsfn.functions.part import Part
from dsfn.functions.workflow.dag import Constant

_SCALARS = (bool, int, float, type(None))


def constant_of(value: Any) -> Constant:
    """The constant of a value that has a JSON form: also of dataclasses and pydantic's models.

    Raises `TypeError`, whose text goes on after the name of what it is.
    """
    try:
        return Constant.of(_plain(value))
    except ValueError:
        raise TypeError("holds NaN or infinity, which JSON lacks") from None
    except RecursionError:
        raise TypeError("is nested too deep") from None


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise TypeError("has a key that is no text")
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Part | Event):
        raise TypeError(
            f"holds {type(value).__name__}, which cannot be written into a workflow;"
            " make it an input"
        )
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        return _plain(to_jsonable_python(value))
    except PydanticSerializationError as error:
        raise TypeError(f"is of type {type(value).__name__}, which has no JSON form") from error
