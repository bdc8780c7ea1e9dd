"""JSON schemas as pydantic writes them, looked into as far as planning needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsfn.functions.values import dataclass

MAX_DEPTH = 8
MAX_PLACES = 1_000

_WORDS_FOR_PEOPLE = frozenset({"$defs", "title", "description", "default", "examples"})
_VALUES = frozenset({"enum", "const", "required"})


def plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema with its references resolved and without words that are for people.

    What refers to itself, or is nested deeper than `MAX_DEPTH`, or comes after the first
    `MAX_PLACES` schemas in it, becomes the schema of anything.
    """
    found = _Reader(schema.get("$defs", {})).read(schema, frozenset())
    return found if isinstance(found, dict) else {}


def members_of(schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The members that every object of a plain schema has, with their schemas."""
    if schema.get("type") != "object":
        return {}
    properties = schema.get("properties", {})
    return {name: properties[name] for name in schema.get("required", ()) if name in properties}


def element_of(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of an array's elements; None for a plain schema of something else."""
    if schema.get("type") != "array" or "prefixItems" in schema:
        return None
    items = schema.get("items", {})
    return items if isinstance(items, Mapping) else {}


def promises(source: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
    """Whether a value of one plain schema has for sure all that another asks for, as far as
    types and members go. What may be anything promises nothing."""
    if not target:
        return True
    if "anyOf" in source:
        return all(promises(option, target) for option in source["anyOf"])
    if "anyOf" in target:
        return any(promises(source, option) for option in target["anyOf"])
    own, wanted = source.get("type"), target.get("type")
    if own != wanted:
        # A schema of values alone has no type: whether they fit is compared elsewhere.
        return (own, wanted) == ("integer", "number") or "enum" in source or "const" in source
    if own == "object":
        return _promises_members(source, target)
    return own != "array" or promises(_items(source), _items(target))


def _promises_members(source: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
    given, wanted = members_of(source), target.get("properties", {})
    needed = target.get("required", ())
    if any(name not in given for name in needed):
        return False
    if not needed and isinstance(target.get("additionalProperties"), Mapping):
        values = source.get("additionalProperties")
        return isinstance(values, Mapping) and promises(values, target["additionalProperties"])
    return all(promises(given[name], wanted.get(name, {})) for name in needed)


def _items(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return element_of(schema) or {}


@dataclass(slots=True)
class _Reader:
    definitions: Mapping[str, Any]
    places: int = 0

    def read(self, schema: Any, through: frozenset[str], depth: int = MAX_DEPTH) -> Any:
        """`through`: the definitions that this place is inside of."""
        if isinstance(schema, list):
            return [self.read(one, through, depth) for one in schema]
        if not isinstance(schema, Mapping):
            return schema
        self.places += 1
        if depth == 0 or self.places > MAX_PLACES:
            return {}
        if "$ref" in schema:
            name = str(schema["$ref"]).rpartition("/")[2]
            target = self.definitions.get(name, {})
            return {} if name in through else self.read(target, through | {name}, depth - 1)
        return {
            key: self._member(key, value, through, depth)
            for key, value in schema.items()
            if key not in _WORDS_FOR_PEOPLE
        }

    def _member(self, key: str, value: Any, through: frozenset[str], depth: int) -> Any:
        if key in _VALUES:
            return value
        if key == "properties" and isinstance(value, Mapping):
            return {name: self.read(own, through, depth - 1) for name, own in value.items()}
        return self.read(value, through, depth - 1)
