"""The one way to say that a named value does not fit, or is not there."""

from __future__ import annotations

from dsfn.functions.errors import InvalidInput

BODY = "body"  # the path of the whole body


def invalid(field: str, problem: str) -> InvalidInput:
    """`InvalidInput` for a field; `problem` goes on after its name, without the full stop."""
    sentence = f"'{field}' {problem}."
    return InvalidInput(sentence, field=field, errors=[{"field": field, "message": sentence}])


def missing(names: list[str]) -> InvalidInput:
    """`InvalidInput` for fields that are not there, of which there is at least one."""
    errors = [{"field": name, "message": "is missing"} for name in names]
    return InvalidInput(f"'{names[0]}' is missing.", field=names[0], errors=errors)
