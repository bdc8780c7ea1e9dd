"""What many parts of a node's OpenAPI description are made of."""

from __future__ import annotations

from typing import Any

from dsfn.functions.interface import JSON_CONTENT_TYPE
from dsfn.runtime.gateway.openapi_base import ERRORS, Document, content

TEXT: Document = {"type": "string"}
MAYBE_TEXT: Document = {"type": ["string", "null"]}
NUMBER: Document = {"type": "integer"}
MAYBE_NUMBER: Document = {"type": ["integer", "null"]}
TIME: Document = {"type": "string", "format": "date-time"}
MAYBE_TIME: Document = {"type": ["string", "null"], "format": "date-time"}
DIGEST: Document = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
MONTH: Document = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"}


def an_object(properties: Document, required: list[str] | None = None) -> Document:
    """An object of which all members are there, or those that are `required`."""
    names = list(properties) if required is None else required
    return {"type": "object", "required": names, "properties": properties}


def a_list(item: Document) -> Document:
    """A list of such items."""
    return {"type": "array", "items": item}


def numbers(*names: str) -> Document:
    """Members that are whole numbers."""
    return dict.fromkeys(names, NUMBER)


def operation(operation: str, tag: str, summary: str, **more: Any) -> Document:
    """What one method of a path does."""
    return {"operationId": operation, "tags": [tag], "summary": summary, **more}


def answers(description: str, schema: Document, status: str = "200", **more: Document) -> Document:
    """The responses of what answers with JSON; `more` content types beside it, by their names in
    `content`."""
    found = {"description": description, "content": content(JSON_CONTENT_TYPE, schema), **more}
    return {status: found, **ERRORS}


def json_body(schema: Document) -> Document:
    """A request's body that has no other members."""
    closed = {**schema, "additionalProperties": False}
    return {"required": True, "content": content(JSON_CONTENT_TYPE, closed)}
