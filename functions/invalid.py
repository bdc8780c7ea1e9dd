"""The one way to say that a named value does not fit."""

from __future__ import annotations

from dsfn.functions.errors import InvalidInput


def invalid(field: str, problem: str) -> InvalidInput:
    """`InvalidInput` for a field; `problem` goes on after its name, without the full stop."""
    sentence = f"'{field}' {problem}."
    return InvalidInput(sentence, field=field, errors=[{"field": field, "message": sentence}])
