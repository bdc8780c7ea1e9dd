"""What functions cost, in a node's OpenAPI description."""

from __future__ import annotations

from dsfn.functions.interface import JSON_CONTENT_TYPE
from dsfn.runtime.gateway.openapi_base import ERRORS, Document, component, content, query

_TEXT: Document = {"type": "string"}
_NUMBER: Document = {"type": "integer"}
_TIME: Document = {"type": "string", "format": "date-time"}
_EFFECT: Document = {
    "cold_calls": _NUMBER,
    "p50_us": {"type": ["integer", "null"]},
    "p99_us": {"type": ["integer", "null"]},
}


def _object(properties: Document) -> Document:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(item: Document) -> Document:
    return {"type": "array", "items": item}


COST_SCHEMAS: Document = {
    "Effect": _object(_EFFECT),
    "FunctionCost": _object(
        {
            "function": _TEXT,
            "calls": _NUMBER,
            "cost_nano": _NUMBER,
            "requests_nano": _NUMBER,
            "restore_nano": _NUMBER,
            "idle_nano": _NUMBER,
            **_EFFECT,
            "parking": _list(_object({"park_after_us": _NUMBER, "cost_nano": _NUMBER, **_EFFECT})),
            "keep_warm": _object({"cost_nano": _NUMBER, "spared_calls": _NUMBER}),
        }
    ),
    "Advice": _object(
        {
            "function": _TEXT,
            "kind": {"enum": ["park-after", "keep-warm", "batch", "precision"]},
            "change": {"type": "string", "description": "For the function's decorator."},
            "cost_nano": _NUMBER,
            "changed_nano": _NUMBER,
            "saving_nano": _NUMBER,
            "saving_basis_points": _NUMBER,
            "before": component("schemas", "Effect"),
            "after": component("schemas", "Effect"),
            "calls": _NUMBER,
            "confidence": {"enum": ["low", "medium", "high"]},
            "assumption": _TEXT,
        }
    ),
}
_REPORT: Document = _object(
    {
        "start": _TIME,
        "end": _TIME,
        "currency": _TEXT,
        "cost_nano": _NUMBER,
        "saving_nano": _NUMBER,
        "functions": _list(component("schemas", "FunctionCost")),
        "advice": _list(component("schemas", "Advice")),
    }
)
COST_PATHS: Document = {
    "/cost/advice": {
        "get": {
            "operationId": "advise",
            "tags": ["costs"],
            "summary": "What other options of the functions would have saved",
            "parameters": [
                query("month", {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"}),
                query("for", {"type": "string", "default": "last month"}),
                query("function", _TEXT),
            ],
            "responses": {
                "200": {
                    "description": "What functions cost, and advice, what saves most first.",
                    "content": content(JSON_CONTENT_TYPE, _REPORT),
                },
                **ERRORS,
            },
        }
    }
}
