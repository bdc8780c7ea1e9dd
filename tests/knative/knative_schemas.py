"""Whether Knative would take a document: checked against the schemas of its own definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

_PLACE = Path(__file__).parent / "schemas"


def check_against_schema(document: dict[str, Any]) -> None:
    """Raises `jsonschema.ValidationError` where Knative refuses or silently drops something."""
    name = document["kind"].lower()
    schema = json.loads((_PLACE / f"{name}.json").read_text(encoding="utf-8"))
    strict = _strict(schema["properties"]["spec"])
    jsonschema.Draft7Validator(strict).validate(document.get("spec", {}))


def _strict(schema: Any) -> Any:
    """The schema as JSON Schema has it. A field that it does not name is an error: Kubernetes drops
    those."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    strict = {key: _inside(key, value) for key, value in schema.items()}
    closed = "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields")
    return {**strict, "additionalProperties": False} if closed else strict


def _inside(key: str, value: Any) -> Any:
    if key == "properties":
        return {name: _strict(each) for name, each in value.items()}
    return _strict(value) if key in ("items", "additionalProperties") else value
