"""Plans in a node's OpenAPI description."""

from __future__ import annotations

from dsfn.functions.interface import JSON_CONTENT_TYPE, MULTIPART_CONTENT_TYPE
from dsfn.functions.workflow.planning.asking import MAX_INPUTS, MAX_WISH_CHARS
from dsfn.functions.workflow.planning.model import OBJECTIVES
from dsfn.runtime.gateway.openapi_base import (
    ERRORS,
    IDEMPOTENCY_KEY,
    PREFER,
    Document,
    component,
    content,
    query,
)
from dsfn.runtime.gateway.openapi_workflows import RUN_RESPONSES

_TYPE: Document = {"type": "string", "description": "A content type, a list of such with `[]`."}
_WANT: Document = {"type": "string", "maxLength": MAX_WISH_CHARS}
_OPTIMISE: Document = {"enum": list(OBJECTIVES)}
_REQUEST: Document = {
    "type": "object",
    "required": ["inputs", "output"],
    "properties": {
        "inputs": {
            "type": "array",
            "items": {"type": "string", "description": "A content type, `NAME=` before it or not."},
            "minItems": 1,
            "maxItems": MAX_INPUTS,
        },
        "output": _TYPE,
        "want": _WANT,
        "optimise": _OPTIMISE,
        "save": {"type": ["string", "null"], "description": "The name of a workflow."},
    },
    "additionalProperties": False,
}
_PLAN: Document = {
    "type": "object",
    "required": ["dag", "steps", "latency_us", "cost", "explanation", "alternatives"],
    "properties": {
        "dag": {"type": "object", "description": "The workflow."},
        "steps": {"type": "array", "items": {"type": "object"}},
        "latency_us": {"type": "integer"},
        "cost": component("schemas", "Cost"),
        "explanation": {"type": "array", "items": {"type": "string"}},
        "alternatives": {"type": "array", "items": {"type": "object"}},
        "complete": {"type": "boolean"},
        "saved": {"type": ["object", "null"]},
    },
}


PLAN_PATHS: Document = {
    "/plans": {
        "post": {
            "operationId": "plan",
            "tags": ["workflows"],
            "summary": "Find the functions that lead from inputs to an output",
            "requestBody": {"required": True, "content": content(JSON_CONTENT_TYPE, _REQUEST)},
            "responses": {
                "200": {
                    "description": "The best plan, and why it is.",
                    "content": content(JSON_CONTENT_TYPE, _PLAN),
                },
                **ERRORS,
            },
        }
    },
    "/auto": {
        "post": {
            "operationId": "auto",
            "tags": ["workflows"],
            "summary": "Plan from the body's type to the wanted one, and run the plan",
            "description": "The wanted type is `output`, or the best that `Accept` names.",
            "parameters": [
                PREFER,
                IDEMPOTENCY_KEY,
                query("output", _TYPE),
                query("want", _WANT),
                query("optimise", _OPTIMISE),
            ],
            "requestBody": {
                "required": True,
                "content": {
                    **content("*/*", {}),
                    **content(MULTIPART_CONTENT_TYPE, {"type": "object"}),
                },
            },
            "responses": RUN_RESPONSES,
        }
    },
}
