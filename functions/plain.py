"""Adapters of plain JSON types by pydantic's core alone.

To import pydantic and have it build two adapters takes longer than all else that a cold worker
does, and most functions take and give numbers, texts, lists and objects: for those pydantic tells
its core no more than what is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Protocol, Union, get_args, get_origin

from pydantic_core import SchemaSerializer, SchemaValidator

from dsfn.functions.values import dataclass

if TYPE_CHECKING:
    from pydantic_core.core_schema import CoreSchema

_OF_TYPE: Mapping[Any, str] = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    NoneType: "none",
    Any: "any",
}


class Adapter(Protocol):
    """What pydantic's `TypeAdapter` does, as far as it is used here."""

    def validate_json(self, data: bytes, /, *, strict: bool | None = None) -> Any:
        """The value of a JSON text. Raises pydantic's `ValidationError`."""

    def validate_python(self, value: Any, /) -> Any:
        """The value as its type wants it. Raises pydantic's `ValidationError`."""

    def dump_json(self, value: Any, /, *, by_alias: bool | None = None) -> bytes:
        """The value as JSON. Raises `PydanticSerializationError`."""

    def dump_python(self, value: Any, /, *, by_alias: bool | None = None) -> Any:
        """The value as plain ones. Raises `PydanticSerializationError`."""


@dataclass(frozen=True, slots=True)
class PlainAdapter:
    """See `Adapter`."""

    validator: SchemaValidator
    serializer: SchemaSerializer

    @classmethod
    def of(cls, schema: CoreSchema) -> PlainAdapter:
        """That of a schema."""
        return cls(SchemaValidator(schema), SchemaSerializer(schema))

    def validate_json(self, data: bytes, /, *, strict: bool | None = None) -> Any:
        """See `Adapter`."""
        return self.validator.validate_json(data, strict=strict)

    def validate_python(self, value: Any, /) -> Any:
        """See `Adapter`."""
        return self.validator.validate_python(value)

    def dump_json(self, value: Any, /, *, by_alias: bool | None = None) -> bytes:
        """See `Adapter`."""
        return self.serializer.to_json(value, by_alias=by_alias)

    def dump_python(self, value: Any, /, *, by_alias: bool | None = None) -> Any:
        """See `Adapter`."""
        return self.serializer.to_python(value, by_alias=by_alias)


def plain_schema(annotation: Any) -> Any:
    """The core's schema of a type, None for one that only pydantic knows."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return _schema_of_union(arguments)
    if origin is list:
        items = plain_schema(arguments[0])
        return None if items is None else {"type": "list", "items_schema": items}
    if origin is dict:
        keys, values = (plain_schema(each) for each in arguments)
        if keys is None or values is None:
            return None
        return {"type": "dict", "keys_schema": keys, "values_schema": values}
    try:
        return {"type": _OF_TYPE[annotation]}
    except (KeyError, TypeError):  # an annotation may be anything, hashable or not
        return None


def _schema_of_union(types: tuple[Any, ...]) -> Any:
    choices = [plain_schema(each) for each in types if each is not NoneType]
    if None in choices:
        return None
    schema = {"type": "union", "choices": choices} if len(choices) > 1 else choices[0]
    return {"type": "nullable", "schema": schema} if NoneType in types else schema


def plain_object(fields: Mapping[str, tuple[Any, bool]]) -> Any:
    """The schema of a JSON object with these fields (type, required) and no others, None where
    one of them has none."""
    found = {}
    for name, (annotation, required) in fields.items():
        schema = plain_schema(annotation)
        if schema is None:
            return None
        found[name] = {"type": "typed-dict-field", "schema": schema, "required": required}
    return {"type": "typed-dict", "fields": found, "extra_behavior": "forbid"}
