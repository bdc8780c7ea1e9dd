"""JSON schemas as pydantic writes them, looked into as far as planning needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
