"""JSON schemas of functions, made to fit into one OpenAPI document.

A type's own definitions (`#/$defs/Box`) become components with the names of the
function and the value before theirs (`detect.boxes.Box`), because two functions
may give different types the same name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dsfn.functions.interface import CONTENT_TYPES, Kind
from dsfn.runtime.gateway.openapi_base import Document, component

_DEFS = "#/$defs/"
# Of these keywords the value is data, of those a map from names to schemas.
_DATA = ("const", "enum", "default", "example", "examples")
_NAMED = ("properties", "patternProperties", "dependentSchemas")


def hoist(schema: Mapping[str, Any] | None, prefix: str, schemas: Document) -> Document:
    """`schema` with its definitions moved into `schemas`, under names that begin with `prefix`."""
    own = dict(schema or {})
    for name, definition in own.pop("$defs", {}).items():
        schemas[_component_name(prefix, name)] = _moved(definition, prefix)
    moved: Document = _moved(own, prefix)
    return moved


def part_schema(kind: Kind) -> Document:
    """A part inside a JSON body: its text or base64, or a reference, or base64 with its type."""
    plain: Document = {"type": "string"}
    if kind != "text":
        plain |= {"contentEncoding": "base64", "contentMediaType": CONTENT_TYPES[kind]}
    return {
        "anyOf": [
            plain,
            {
                "type": "object",
                "description": "A blob of the node's store, or a URL that it fetches.",
                "required": ["$ref"],
                "properties": {"$ref": {"type": "string"}},
                "additionalProperties": False,
            },
            embedded_schema(kind),
        ]
    }


def embedded_schema(kind: Kind) -> Document:
    """A part inside JSON together with its content type."""
    base64 = {
        "type": "string",
        "contentEncoding": "base64",
        "contentMediaType": CONTENT_TYPES[kind],
    }
    return {
        "type": "object",
        "required": ["base64"],
        "properties": {
            "base64": base64,
            "content_type": {"type": "string"},
            "name": {"type": "string"},
        },
        "additionalProperties": False,
    }


def _moved(schema: Any, prefix: str) -> Any:
    if isinstance(schema, list):
        return [_moved(item, prefix) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: _moved_keyword(key, value, prefix) for key, value in schema.items()}


def _moved_keyword(key: str, value: Any, prefix: str) -> Any:
    if key in _DATA:
        return value
    if key == "$ref":
        return _moved_reference(value, prefix)
    if key in _NAMED and isinstance(value, Mapping):
        return {name: _moved(schema, prefix) for name, schema in value.items()}
    if key == "discriminator" and isinstance(value, Mapping):
        mapping = value.get("mapping", {})
        return {**value, "mapping": {k: _moved_reference(v, prefix) for k, v in mapping.items()}}
    return _moved(value, prefix)


def _moved_reference(reference: Any, prefix: str) -> Any:
    if isinstance(reference, str) and reference.startswith(_DEFS):
        name = _component_name(prefix, reference.removeprefix(_DEFS))
        return component("schemas", name)["$ref"]
    return reference


def _component_name(prefix: str, name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", f"{prefix}.{name}")
