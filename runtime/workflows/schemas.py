"""Values against JSON schemas (Draft 2020-12), with the path of each that does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from dsfn.functions.errors import DefinitionError, InvalidInput
from dsfn.functions.invalid import invalid
from dsfn.functions.jsonbody import MAX_REPORTED_ERRORS

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

_MAX_MESSAGE_CHARS = 200
_KEPT = 1000
_SCALARS: Mapping[str, frozenset[type]] = {
    "boolean": frozenset({bool}),
    "integer": frozenset({int}),
    "null": frozenset({type(None)}),
    "number": frozenset({int, float}),
    "string": frozenset({str}),
}
_SAYS_NOTHING = {"title", "description", "default"}


def check_value(schema: Mapping[str, Any], value: Any, field: str) -> None:
    """Raises `InvalidInput` with the path, below `field`, of each part that does not fit."""
    from referencing.exceptions import Unresolvable

    if fits_plainly(schema, value):
        return
    try:
        found = list(islice(_validator(_text(schema)).iter_errors(value), MAX_REPORTED_ERRORS))
    except (RecursionError, Unresolvable) as error:
        raise invalid(field, f"cannot be checked against its schema ({error!r})") from error
    if found:
        errors = [_named(error, field) for error in found]
        first = errors[0]
        raise InvalidInput(
            f"'{first['field']}' {first['message']}.", field=first["field"], errors=errors
        )


def fits_plainly(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether a value certainly fits, as scalars and lists of them can be told at once. The
    validator, which knows all else, takes 20 microseconds for each item of a list."""
    said = schema.keys() - _SAYS_NOTHING
    if said == {"type"}:
        return type(value) in _scalars(schema)
    items = schema.get("items")
    if said != {"type", "items"} or schema["type"] != "array" or type(value) is not list:
        return False
    if not isinstance(items, Mapping) or items.keys() - _SAYS_NOTHING != {"type"}:
        return False
    return set(map(type, value)) <= _scalars(items)


def check_schema(schema: Mapping[str, Any], of: str) -> None:
    """Raises `DefinitionError` unless this is a JSON schema; `of` says what of, in a sentence."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise DefinitionError(f"The schema of {of} is no JSON schema: {error.message}.") from error
    except RecursionError as error:
        raise DefinitionError(f"The schema of {of} is nested too deep.") from error


def _scalars(schema: Mapping[str, Any]) -> frozenset[type]:
    kind = schema["type"]
    return _SCALARS.get(kind, frozenset()) if isinstance(kind, str) else frozenset()


def _text(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=_KEPT)
def _validator(schema: str) -> Validator:
    # Imported with the first value that is checked: it takes a tenth of a second.
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # An empty registry: a schema's `$ref` must never have the node fetch something.
    registry: Registry[Any] = Registry()
    return Draft202012Validator(json.loads(schema), registry=registry)


def _named(error: ValidationError, field: str) -> dict[str, str]:
    path = [field, *(str(step) for step in error.absolute_path)]
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        # Each that is missing has an error of its own, whose sentence begins with its name.
        name = next((n for n in missing if error.message.startswith(repr(n))), missing[0])
        return {"field": ".".join([*path, name]), "message": "is missing"}
    words = error.message
    if len(words) > _MAX_MESSAGE_CHARS:
        words = f"...{words[-_MAX_MESSAGE_CHARS:]}"
    return {"field": ".".join(path), "message": f"does not fit: {words}"}
