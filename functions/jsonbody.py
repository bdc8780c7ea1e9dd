"""JSON as it comes in: limits first, then one pass of validation, then errors with names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import ValidationError, from_json

from dsfn.functions.errors import InvalidInput, MalformedBody
from dsfn.functions.invalid import BODY, invalid
from dsfn.functions.limits import Limits
from dsfn.functions.plain import Adapter

MAX_REPORTED_ERRORS = 20

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}:]', re.DOTALL)
_PLACE = re.compile(r"at line (\d+) column (\d+)")
_BRACES = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
# A number of fewer digits than this with an exponent of two digits is below the largest float.
_LONG_NUMBER = b"0" * 200


def read_json(adapter: Adapter, body: bytes, limits: Limits, within: str = "") -> Any:
    """The value that `adapter` makes of a JSON text.

    `within` is the path at which the text stands. Raises `MalformedBody`, or
    `InvalidInput` with the path of each value that does not fit.
    """
    check_limits(body, limits, within)
    try:
        return adapter.validate_json(body, strict=True)
    except ValidationError as error:
        raise named(error, within) from None


def parse_json(body: bytes, limits: Limits, within: str = "") -> Any:
    """The plain value of a JSON text. Raises `MalformedBody`, `InvalidInput`."""
    check_limits(body, limits, within)
    return _parse(body, within)


def check_limits(body: bytes, limits: Limits, within: str) -> None:
    """Refuses JSON that is nested too deep, and NaN and infinities, however spelled."""
    depth = limits.max_json_depth
    if body.count(b"[") + body.count(b"{") > depth and _deeper_than(depth, body):
        raise invalid(
            _under(within, _deep_field(body, depth)), f"is nested deeper than {depth} levels"
        )
    if _may_hold_non_finite(body):
        path = non_finite(_parse(body, within), within)
        if path is not None:
            raise invalid(path or BODY, "is NaN or infinite, which JSON has no number for")


def non_finite(value: Any, path: str) -> str | None:
    """The path of the first NaN or infinity in plain values, None when there is none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else path
    if isinstance(value, Mapping):
        return _first_non_finite(iter(value.items()), path)
    if isinstance(value, list | tuple):
        return _first_non_finite(enumerate(value), path)
    return None


def named(error: ValidationError, within: str) -> InvalidInput | MalformedBody:
    """pydantic's error as ours, each value by its dotted path."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    if found[0]["type"] == "json_invalid":
        return malformed(found[0]["msg"], within)
    errors = [
        {"field": _under(within, *entry["loc"]), "message": _message(entry["type"], entry["msg"])}
        for entry in found[:MAX_REPORTED_ERRORS]
    ]
    first = errors[0]
    return InvalidInput(
        f"'{first['field']}' {first['message']}.", field=first["field"], errors=errors
    )


def malformed(reason: str, within: str) -> MalformedBody:
    """The error for a text that is no JSON, with its place."""
    reason = reason.removeprefix("Invalid JSON: ")
    place = _PLACE.search(reason)
    where = {"line": int(place[1]), "column": int(place[2])} if place else {}
    field = within or BODY
    return MalformedBody(f"'{field}' is not JSON: {reason}.", field=field, **where)


def _parse(body: bytes, within: str) -> Any:
    try:
        return from_json(body)
    except ValueError as error:
        raise malformed(str(error), within) from None


def _message(kind: str, message: str) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is not something that the function takes"
    return f"does not fit: {message[:1].lower()}{message[1:]}"


def _under(*steps: int | str) -> str:
    return ".".join(str(step) for step in steps if step != "") or BODY


def _may_hold_non_finite(body: bytes) -> bool:
    if b"NaN" in body or b"Infinity" in body:
        return True
    folded = body.translate(_DIGITS)
    return b"e000" in folded or b"e+000" in folded or _LONG_NUMBER in folded


def _first_non_finite(items: Iterator[tuple[Any, Any]], path: str) -> str | None:
    for key, value in items:
        if isinstance(value, float | Mapping | list | tuple):
            found = non_finite(value, f"{path}.{key}" if path else str(key))
            if found is not None:
                return found
    return None


def _deeper_than(depth: int, body: bytes) -> bool:
    # Brackets alone, then one level of them fewer each round: no Python loop over values.
    brackets = _STRING.sub(b"", body).translate(_BRACES, _NOT_BRACKETS)
    for _ in range(depth):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return brackets.count(b"[") > 0


def _deep_field(body: bytes, limit: int) -> str:
    depth, last, field = 0, b"", b""
    for match in _TOKEN.finditer(body):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
            if depth > limit:
                break
        elif token in (b"]", b"}"):
            depth -= 1
        elif token == b":":
            field = last if depth == 1 else field
        else:
            last = token
    return field.strip(b'"').decode("utf-8", "replace")
