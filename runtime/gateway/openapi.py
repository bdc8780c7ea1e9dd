"""The OpenAPI 3.1 description of everything that is deployed, from the functions' types."""

from __future__ import annotations

from collections.abc import Sequence

from dsfn.functions.interface import (
    CONTENT_TYPES,
    EVENT_CONTENT_TYPE,
    JSON_CONTENT_TYPE,
    MULTIPART_CONTENT_TYPE,
    Interface,
    ParameterInterface,
)
from dsfn.functions.options import Options
from dsfn.functions.workflow.dag import Dag
from dsfn.runtime.gateway.openapi_access import (
    ACCESS_PATHS,
    ACCESS_SCHEMAS,
    SECURITY_SCHEME,
    SECURITY_SCHEMES,
)
from dsfn.runtime.gateway.openapi_base import (
    ANSWER_HEADERS,
    ERRORS,
    IDEMPOTENCY_KEY,
    PREFER,
    Document,
    common_paths,
    component,
    components,
    content,
)
from dsfn.runtime.gateway.openapi_bills import BILL_PATHS, BILL_SCHEMAS
from dsfn.runtime.gateway.openapi_costs import COST_PATHS, COST_SCHEMAS
from dsfn.runtime.gateway.openapi_plans import PLAN_PATHS
from dsfn.runtime.gateway.openapi_schemas import embedded_schema, hoist, part_schema
from dsfn.runtime.gateway.openapi_workflows import WORKFLOW_SCHEMAS, workflow_paths

_EVENT_STREAM = "text/event-stream"
_OCTET_STREAM = "application/octet-stream"

_ACCEPTED: Document = {
    "description": "The call is stored and will run.",
    "headers": {
        "Location": {
            "description": "The path of the invocation.",
            "schema": {"type": "string", "format": "uri-reference"},
        },
        "Dsfn-Invocation-Id": component("headers", "Dsfn-Invocation-Id"),
    },
}


def openapi_document(
    functions: Sequence[tuple[Options, Interface]],
    version: str,
    url: str,
    workflows: Sequence[Dag] = (),
    needs_key: bool = False,
) -> Document:
    """The description of a node at `url` that serves `functions` and `workflows`, and to use which
    one `needs_key`."""
    schemas: Document = {
        **WORKFLOW_SCHEMAS,
        **ACCESS_SCHEMAS,
        **BILL_SCHEMAS,
        **COST_SCHEMAS,
    }
    paths = {
        f"/functions/{options.name}": {"post": _operation(options.name, interface, schemas)}
        for options, interface in functions
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "dsfn", "version": version},
        "servers": [{"url": url}],
        "security": [{SECURITY_SCHEME: []}] if needs_key else [{}, {SECURITY_SCHEME: []}],
        "paths": {
            **paths,
            **workflow_paths(workflows, schemas),
            **PLAN_PATHS,
            **ACCESS_PATHS,
            **BILL_PATHS,
            **COST_PATHS,
            **common_paths(),
        },
        "components": {**components(schemas), "securitySchemes": SECURITY_SCHEMES},
    }


def _operation(name: str, interface: Interface, schemas: Document) -> Document:
    operation: Document = {
        "operationId": "call_" + name.replace("-", "_"),
        "tags": ["functions"],
        "summary": interface.description.strip().partition("\n")[0] or name,
        "parameters": [PREFER, IDEMPOTENCY_KEY],
        "requestBody": {
            "required": any(p.required for p in interface.parameters),
            "content": _request(name, interface, schemas),
        },
        "responses": {
            "200": {
                "description": "What the function answered.",
                "headers": ANSWER_HEADERS,
                "content": _answer(name, interface, schemas),
            },
            "202": _ACCEPTED,
            **ERRORS,
        },
    }
    if interface.description.strip():
        operation["description"] = interface.description
    return operation


def _request(name: str, interface: Interface, schemas: Document) -> Document:
    """A body for each content type that the function takes."""
    values = {p.name: _value(name, p, schemas) for p in interface.parameters}
    bodies: Document = {}
    for content_type in interface.request_content_types():
        if content_type == JSON_CONTENT_TYPE:
            bodies |= content(content_type, _object(interface, values))
        elif content_type == EVENT_CONTENT_TYPE:
            bodies |= content(content_type, component("schemas", "CloudEvent"))
        elif content_type == MULTIPART_CONTENT_TYPE:
            bodies[content_type] = _form(interface, values)
        else:
            bodies |= content(content_type, _raw(content_type))
    return bodies


def _object(interface: Interface, values: Document) -> Document:
    return {
        "type": "object",
        "required": [p.name for p in interface.parameters if p.required],
        "properties": values,
        "additionalProperties": False,
    }


def _form(interface: Interface, values: Document) -> Document:
    """A form: parts as they are, everything else as JSON."""
    fields, encoding = {}, {}
    for parameter in interface.parameters:
        is_part = parameter.kind not in ("json", "event")
        media = CONTENT_TYPES[parameter.kind]
        fields[parameter.name] = _raw(media) if is_part else values[parameter.name]
        encoding[parameter.name] = {"contentType": media}
    return {"schema": _object(interface, fields), "encoding": encoding}


def _value(function: str, parameter: ParameterInterface, schemas: Document) -> Document:
    """A parameter inside a JSON body."""
    if parameter.kind == "json":
        return hoist(parameter.schema, f"{function}.{parameter.name}", schemas)
    if parameter.kind == "event":
        return component("schemas", "CloudEvent")
    return part_schema(parameter.kind)


def _answer(name: str, interface: Interface, schemas: Document) -> Document:
    """A body for each content type that the answer may have."""
    result = interface.result
    schema = hoist(result.schema, f"{name}.result", schemas)
    if result.streaming:
        return _stream(interface, schema)
    event = content(EVENT_CONTENT_TYPE, component("schemas", "CloudEvent"))
    if result.kind == "json":
        return {**content(JSON_CONTENT_TYPE, schema), **event}
    if result.kind == "event":
        return {**event, **content(JSON_CONTENT_TYPE, component("schemas", "CloudEvent"))}
    media = "text/plain" if result.kind == "text" else CONTENT_TYPES[result.kind]
    as_json = {"type": "string"} if result.kind == "text" else embedded_schema(result.kind)
    return {**content(media, _raw(media)), **content(JSON_CONTENT_TYPE, as_json), **event}


def _stream(interface: Interface, schema: Document) -> Document:
    """Server-sent events, or chunks of bytes. OpenAPI 3.1 has no word for the type of one item."""
    kind = interface.result.kind
    if kind not in ("json", "text", "event"):
        return content(_OCTET_STREAM, {})
    item = {"json": schema, "text": {"type": "string"}, "event": component("schemas", "CloudEvent")}
    text = {"type": "string", "description": "Server-sent events; the data of each is one item."}
    return {_EVENT_STREAM: {"schema": text, "x-item-schema": item[kind]}}


def _raw(content_type: str) -> Document:
    """A body that is the bytes themselves (a schema without a type, as OpenAPI 3.1 has it)."""
    return {"type": "string"} if content_type.startswith("text/") else {}
