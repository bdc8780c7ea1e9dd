"""The part of a node's OpenAPI description that is the same whatever is deployed."""

from __future__ import annotations

from typing import Any

from dsfn.functions.interface import EVENT_CONTENT_TYPE, JSON_CONTENT_TYPE

Document = dict[str, Any]

PROBLEM_CONTENT_TYPE = "application/problem+json"
EVENT_BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"


def component(kind: str, name: str) -> Document:
    """A reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def content(content_type: str, schema: Document) -> Document:
    """A body of one content type."""
    return {content_type: {"schema": schema}}


def query(name: str, schema: Document) -> Document:
    """A parameter in the query of a URL."""
    return {"name": name, "in": "query", "schema": schema}


# What every operation may answer beside its own.
ERRORS: Document = {
    "4XX": component("responses", "Problem"),
    "503": component("responses", "Unavailable"),
    "5XX": component("responses", "Problem"),
}

PREFER: Document = {
    "name": "Prefer",
    "in": "header",
    "description": "`respond-async`: answer 202 at once; the result is fetched later.",
    "schema": {"type": "string"},
}
IDEMPOTENCY_KEY: Document = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A repeat with the same key and body gets the first answer again.",
    "schema": {"type": "string"},
}
# The headers of an answer, each with its type and what it says.
_HEADERS: dict[str, tuple[str, str]] = {
    "Server-Timing": (
        "string",
        "Milliseconds of queue, start, restore and execute, and of their parts.",
    ),
    "Dsfn-Invocation-Id": ("string", "The id of this call."),
    "Dsfn-Revision": ("string", "The revision that answered."),
    "Dsfn-Device-Class": ("string", '"cpu", or the name of the GPU.'),
    "Dsfn-Busy-Us": ("integer", "Microseconds that the device computed."),
    "Dsfn-Held-Us": ("integer", "Microseconds that the device was held."),
    "Dsfn-Gpu-Us": ("integer", "Microseconds that a GPU was held; 0 on the CPU."),
    "Dsfn-Cost-Nano": ("integer", "The estimated cost in 10^-9 of the currency."),
    "Dsfn-Currency": ("string", "The currency's ISO 4217 code."),
    "Dsfn-Replayed": ("string", '"true" when this is the first answer to a repeated key.'),
}

ANSWER_HEADERS: Document = {name: component("headers", name) for name in _HEADERS}

_PROBLEM: Document = {
    "type": "object",
    "description": "An error (RFC 9457). Further members are facts about it, such as `field`.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The id of the call."},
    },
}

_EVENT: Document = {
    "type": "object",
    "description": "A CloudEvent in its JSON format. `data` holds what the function takes.",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "format": "uri-reference", "minLength": 1},
        "type": {"type": "string", "minLength": 1},
        "subject": {"type": "string"},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"type": "string"},
        "dataschema": {"type": "string", "format": "uri"},
        "data": {},
        "data_base64": {"type": "string", "contentEncoding": "base64"},
    },
    "additionalProperties": {"type": ["string", "integer", "boolean"]},
}

_INVOCATION: Document = {
    "type": "object",
    "description": "How far a call is that nobody waits for.",
    "required": ["id", "function", "state", "attempts", "created_at"],
    "properties": {
        "id": {"type": "string"},
        "function": {"type": "string"},
        "revision": {"type": ["string", "null"]},
        "state": {"enum": ["queued", "running", "succeeded", "failed"]},
        "attempts": {"type": "integer"},
        "created_at": {"type": "string", "format": "date-time"},
        "finished_at": {"type": ["string", "null"], "format": "date-time"},
        "error": {"anyOf": [component("schemas", "Problem"), {"type": "null"}]},
        "result": {"type": ["string", "null"], "description": "The path of its answer."},
    },
}

_BLOB: Document = {
    "type": "object",
    "required": ["ref", "bytes"],
    "properties": {
        "ref": {"type": "string", "pattern": "^blob:sha256:[0-9a-f]{64}$"},
        "bytes": {"type": "integer"},
    },
}


def components(schemas: Document) -> Document:
    """The shared components, with `schemas` beside the node's own."""
    problem = content(PROBLEM_CONTENT_TYPE, component("schemas", "Problem"))
    retry = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
    return {
        "schemas": {
            "Problem": _PROBLEM,
            "CloudEvent": _EVENT,
            "Invocation": _INVOCATION,
            "Blob": _BLOB,
            **schemas,
        },
        "headers": {
            name: {"description": text, "schema": {"type": kind}}
            for name, (kind, text) in _HEADERS.items()
        },
        "responses": {
            "Problem": {"description": "The call failed.", "content": problem},
            "Unavailable": {
                "description": "It cannot be served now.",
                "headers": {"Retry-After": retry},
                "content": problem,
            },
        },
    }


def common_paths() -> Document:
    """The paths of events, asynchronous calls and blobs."""
    return {
        "/events": {"post": _post_events()},
        "/invocations/{id}": {
            "parameters": [path_parameter("id", "The id of the call.")],
            "get": {
                "operationId": "get_invocation",
                "tags": ["invocations"],
                "summary": "How far an asynchronous call is",
                "responses": {
                    "200": {
                        "description": "Its state.",
                        "content": content(JSON_CONTENT_TYPE, component("schemas", "Invocation")),
                    },
                    **ERRORS,
                },
            },
        },
        "/invocations/{id}/result": {
            "parameters": [path_parameter("id", "The id of the call.")],
            "get": {
                "operationId": "get_invocation_result",
                "tags": ["invocations"],
                "summary": "The answer of an asynchronous call",
                "responses": {
                    "200": {
                        "description": "What the function answered.",
                        "headers": ANSWER_HEADERS,
                        "content": content("*/*", {}),
                    },
                    **ERRORS,
                },
            },
        },
        "/blobs": {"post": _post_blob()},
        "/blobs/{hex}": {
            "parameters": [path_parameter("hex", "The SHA-256 of its bytes.")],
            "get": {
                "operationId": "get_blob",
                "tags": ["blobs"],
                "summary": "The bytes of a blob",
                "responses": {
                    "200": {"description": "Its bytes.", "content": content("*/*", {})},
                    **ERRORS,
                },
            },
        },
    }


def _post_events() -> Document:
    event = component("schemas", "CloudEvent")
    return {
        "operationId": "post_events",
        "tags": ["events"],
        "summary": "Store CloudEvents and route them to the functions whose triggers match",
        "description": "Binary mode (`ce-` headers, any content type), structured or batched.",
        "requestBody": {
            "required": True,
            "content": {
                **content(EVENT_CONTENT_TYPE, event),
                **content(EVENT_BATCH_CONTENT_TYPE, {"type": "array", "items": event}),
                **content("*/*", {}),
            },
        },
        "responses": {"202": {"description": "Stored."}, **ERRORS},
    }


def _post_blob() -> Document:
    return {
        "operationId": "post_blob",
        "tags": ["blobs"],
        "summary": "Store bytes that later calls name by reference",
        "requestBody": {"required": True, "content": content("*/*", {})},
        "responses": {
            "201": {
                "description": "Stored; `ref` names them.",
                "content": content(JSON_CONTENT_TYPE, component("schemas", "Blob")),
            },
            **ERRORS,
        },
    }


def path_parameter(name: str, description: str) -> Document:
    """A parameter in a path."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string"},
    }
