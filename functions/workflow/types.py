"""The types of what flows in a workflow, and what fits what."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from dsfn.functions.interface import Kind, ResultInterface
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import Constant
from dsfn.functions.workflow.schemas import Schema, clash, constant_schema

NAMES: Mapping[str, str] = {
    "text": "Text",
    "image": "Image",
    "audio": "Audio",
    "video": "Video",
    "tensor": "Tensor",
    "file": "File",
    "event": "Event",
}
_STRING = Schema.of({"type": "string"})
_STRING_OR_NULL = Schema.of({"type": ["string", "null"]})
_OBJECT = Schema.of({"type": "object"})


@dataclass(frozen=True)
class PartType:
    """A part, or an event."""

    kind: Kind

    def __str__(self) -> str:
        return NAMES[self.kind]


@dataclass(frozen=True)
class JsonType:
    """A JSON value."""

    schema: Schema

    def __str__(self) -> str:
        return "JSON" if self.schema.is_anything else str(self.schema)


@dataclass(frozen=True)
class ListType:
    """A list whose items may be parts: of any number of one type, or these and no others."""

    of: Type
    items: tuple[Type, ...] | None = None

    def __str__(self) -> str:
        if self.items is not None:
            return f"[{', '.join(str(item) for item in self.items)}]"
        return f"list of {self.of}"


@dataclass(frozen=True)
class ObjectType:
    """An object whose members may be parts."""

    members: tuple[tuple[str, Type], ...]

    def __str__(self) -> str:
        return f"{{{', '.join(f'{name}: {type_}' for name, type_ in self.members)}}}"


@dataclass(frozen=True)
class EitherType:
    """What one branch of several gives."""

    options: tuple[Type, ...]

    def __str__(self) -> str:
        return " or ".join(dict.fromkeys(str(option) for option in self.options))


Type = PartType | JsonType | ListType | ObjectType | EitherType
NOTHING = EitherType(())
"""Of the items of an empty list."""


def value_type(kind: Kind, many: bool, schema: Mapping[str, Any] | None) -> Type:
    """The type of an input, a parameter or a result."""
    one: Type = JsonType(Schema.of(schema)) if kind == "json" else PartType(kind)
    return ListType(one) if many else one


def result_type(result: ResultInterface) -> Type | None:
    """The type of what a step gives; None for a stream that has no form as one value.

    A stream of JSON is the list of its items, one of Text is their text in one.
    """
    if not result.streaming or result.kind == "text":
        return value_type(result.kind, False, result.schema)
    return value_type("json", True, result.schema) if result.kind == "json" else None


def constant_type(constant: Constant) -> Type:
    """The type of a constant."""
    return JsonType(constant_schema(json.loads(constant.text)))


def either(options: Iterable[Type]) -> Type:
    """The type of what may be any of these; one that is there twice counts once."""
    found = tuple({id(option): option for option in options}.values())
    return found[0] if len(found) == 1 else EitherType(found)


def misfit(source: Type, target: Type, nested: bool = False) -> str | None:
    """Why what is of type `source` can never be given where `target` is taken; None when it may.

    `nested`: within a list or object that is given as JSON, in which a part is a reference.
    """
    if isinstance(source, EitherType):
        reasons = (misfit(option, target, nested) for option in source.options)
        return next((reason for reason in reasons if reason is not None), None)
    match target:
        case PartType(kind):
            return _misfit_of_part(source, kind)
        case ListType(of, None):
            return _misfit_of_list(source, of)
        case JsonType(schema):
            return _misfit_of_json(source, schema, nested)
    raise AssertionError(f"{target} is no type of a parameter")


def misfit_of_result(source: Type, declared: Type) -> str | None:
    """As `misfit`, of what a workflow gives: JSON may have parts in it, as references, but a part
    alone is no JSON."""
    if isinstance(source, EitherType):
        reasons = (misfit_of_result(option, declared) for option in source.options)
        return next((reason for reason in reasons if reason is not None), None)
    return misfit(source, declared, nested=not isinstance(source, PartType))


def item_type(list_: Type, index: int | None = None) -> Type | None:
    """The type of an item, of any or of one; None when it is no list or has none there."""
    match list_:
        case ListType(_, items) if items is not None and index is not None:
            return items[index] if index < len(items) else None
        case ListType(of, _):
            return of
        case JsonType(schema):
            found = [s for one in schema.alternatives if (s := one.item(index)) is not None]
            if not found and index is None and _may_be_list(schema):
                return NOTHING
            return _of_any(found)
        case EitherType(options):
            return _of_some(item_type(option, index) for option in options)
    return None


def member_type(object_: Type, name: str) -> Type | None:
    """The type of a member; None when there can be none of that name."""
    match object_:
        case ObjectType(members):
            return dict(members).get(name)
        case JsonType(schema):
            found = [s for one in schema.alternatives if (s := one.member(name)) is not None]
            return _of_any(found)
        case EitherType(options):
            return _of_some(member_type(option, name) for option in options)
        case PartType("event"):
            return JsonType(Schema.of(None))
    return None


def _of_some(inner: Iterable[Type | None]) -> Type | None:
    """What is there in some of several cases; which it is shows when the value is there."""
    found = [type_ for type_ in inner if type_ is not None]
    return either(found) if found else None


def may_be_condition(type_: Type) -> bool:
    """Whether something can be true or false: all but parts can."""
    if isinstance(type_, EitherType):
        return all(may_be_condition(option) for option in type_.options)
    return not isinstance(type_, PartType) or type_.kind == "text"


def _may_be_list(schema: Schema) -> bool:
    return any("array" in one.types for one in schema.alternatives)


def _of_any(schemas: list[Schema]) -> Type | None:
    """What fits one of several schemas, which may be of different documents."""
    if not schemas:
        return None
    if len(schemas) == 1 or all(s.root is schemas[0].root for s in schemas):
        node = schemas[0].node if len(schemas) == 1 else {"anyOf": [s.node for s in schemas]}
        return JsonType(Schema(node, schemas[0].root))
    return JsonType(Schema.of(None))


def _misfit_of_part(source: Type, kind: Kind) -> str | None:
    given = f"{source} is not {NAMES[kind]}"
    match source:
        case PartType(own) if own == kind:
            return None
        case PartType(own) if own != "event" and kind != "event":
            # A File may hold anything; which it is shows when it is there.
            return None if "file" in (own, kind) else given
        case JsonType(schema):
            if kind == "text":
                return None if clash(schema, _STRING_OR_NULL) is None else given
            return None if all(one.types == {"null"} for one in schema.alternatives) else given
    return given


def _misfit_of_list(source: Type, of: Type) -> str | None:
    match source:
        case ListType(_, items) if items is not None:
            reasons = (misfit(item, of) for item in items)
            return next((reason for reason in reasons if reason is not None), None)
        case ListType(own, _):
            return misfit(own, of)
        case JsonType():
            found = item_type(source)
            if found is not None:
                return misfit(found, of)
    return f"{source} is not a list of {of}"


def _misfit_of_json(source: Type, schema: Schema, nested: bool) -> str | None:
    given = f"{source} is not {JsonType(schema)}"
    match source:
        case JsonType(own):
            return clash(own, schema)
        case PartType("text"):
            return clash(_STRING, schema)
        case PartType("event"):
            return clash(_OBJECT, schema)
        case PartType():
            return None if nested and schema.is_anything else given
        case ListType():
            return _first_fit(
                given, (_misfit_of_array(source, s, nested) for s in schema.alternatives)
            )
        case ObjectType():
            return _first_fit(
                given, (_misfit_of_object(source, s, nested) for s in schema.alternatives)
            )
    return given


def _first_fit(given: str, reasons: Iterable[str | None]) -> str | None:
    found = list(reasons)
    if None in found:
        return None
    return found[0] if len(found) == 1 else given


def _misfit_of_array(source: ListType, schema: Schema, nested: bool) -> str | None:
    if "array" not in schema.types or schema.values is not None:
        return f"{source} is not {JsonType(schema)}"
    if source.items is None:
        to = schema.item()
        return None if to is None else misfit(source.of, JsonType(to), nested)
    least, most = schema.words.get("minItems", 0), schema.words.get("maxItems")
    if len(source.items) < least or (most is not None and len(source.items) > most):
        return f"a list of {len(source.items)} has not as many items as {JsonType(schema)}"
    for index, item in enumerate(source.items):
        to = schema.item(index)
        reason = None if to is None else misfit(item, JsonType(to), nested)
        if reason is not None:
            return f"item {index}: {reason}"
    return None


def _misfit_of_object(source: ObjectType, schema: Schema, nested: bool) -> str | None:
    if "object" not in schema.types or schema.values is not None:
        return f"{source} is not {JsonType(schema)}"
    given = dict(source.members)
    for name in schema.words.get("required", ()):
        if name not in given:
            return f"it has no member '{name}'"
    for name, type_ in given.items():
        to = schema.member(name)
        if to is None and schema.words.get("additionalProperties") is False:
            return f"its member '{name}' is not taken"
        reason = None if to is None else misfit(type_, JsonType(to), nested)
        if reason is not None:
            return f"its member '{name}': {reason}"
    return None
