"""Workflows, runs and dead letters in a node's OpenAPI description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dsfn.billing.usage import STATUSES
from dsfn.functions.interface import (
    CONTENT_TYPES,
    EVENT_CONTENT_TYPE,
    JSON_CONTENT_TYPE,
    MULTIPART_CONTENT_TYPE,
)
from dsfn.functions.workflow.dag import MAX_ITEMS, Dag, WorkflowInput
from dsfn.runtime.gateway.openapi_base import (
    ERRORS,
    IDEMPOTENCY_KEY,
    PREFER,
    Document,
    component,
    content,
    path_parameter,
    query,
)
from dsfn.runtime.gateway.openapi_schemas import hoist, part_schema
from dsfn.runtime.gateway.openapi_shapes import an_object
from dsfn.runtime.gateway.server_sent import EVENT_STREAM
from dsfn.runtime.workflows.model import RunState, StepState

_LOCATION: Document = {
    "description": "The path of the run.",
    "schema": {"type": "string", "format": "uri-reference"},
}
_RUN_ID: Document = {"description": "The id of the run.", "schema": {"type": "string"}}
_HEADERS: Document = {
    "Location": _LOCATION,
    "Dsfn-Run-Id": _RUN_ID,
    **{
        name: component("headers", name)
        for name in (
            "Server-Timing",
            "Dsfn-Revision",
            "Dsfn-Held-Us",
            "Dsfn-Cost-Nano",
            "Dsfn-Currency",
            "Dsfn-Replayed",
        )
    },
}
_TIME: Document = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Document = {"type": ["string", "null"], "format": "date-time"}
_COST: Document = {
    "type": "object",
    "required": ["currency", "amount_nano"],
    "properties": {"currency": {"type": "string"}, "amount_nano": {"type": "integer"}},
}
_ERROR: Document = {"anyOf": [component("schemas", "Problem"), {"type": "null"}]}
_ITEM: Document = {
    "description": "Null outside a fan-out, a list in nested ones.",
    "type": ["integer", "array", "null"],
    "items": {"type": "integer"},
}
_SUMMARY: Document = {
    "id": {"type": "string"},
    "workflow": {"type": "string"},
    "revision": {"type": "string"},
    "state": {"enum": [state.value for state in RunState]},
    "error": _ERROR,
    "started_at": _TIME,
    "finished_at": _MAYBE_TIME,
    "cost": component("schemas", "Cost"),
    "held_us": {"type": "integer"},
    "retry_of": {"type": ["string", "null"]},
}
_STEP: Document = {
    "id": {"type": "string"},
    "function": {"type": "string"},
    "revision": {"type": ["string", "null"]},
    "item": _ITEM,
    "state": {"enum": [state.value for state in StepState]},
    "attempts": {"type": "integer"},
    "started_at": _MAYBE_TIME,
    "finished_at": _MAYBE_TIME,
    "busy_us": {"type": "integer"},
    "held_us": {"type": "integer"},
    "cost": component("schemas", "Cost"),
    "cached": {"type": "boolean"},
    "error": _ERROR,
    "invocations": {"type": "array", "items": {"type": "string"}},
}
_PROGRESS: Document = {
    "id": {"type": "string"},
    "kind": {"enum": ["call", "decide", "each"]},
    "states": {"type": "object", "additionalProperties": {"type": "integer"}},
    "wall_us": {"type": ["integer", "null"]},
    "held_us": {"type": "integer"},
    "cost": component("schemas", "Cost"),
    "retried": {"type": "integer"},
    "cached": {"type": "integer"},
}

_SPENT: Document = {
    name: {"type": "integer"}
    for name in ("requests", "quantity_us", "busy_us", "held_us", "restore_us", "amount_nano")
}


WORKFLOW_SCHEMAS: Document = {
    "Cost": _COST,
    "RunSummary": an_object(_SUMMARY),
    "RunStep": an_object(_STEP),
    "RunProgress": an_object(_PROGRESS),
    "Run": an_object(
        {
            **_SUMMARY,
            "output": {"description": "JSON or text; bytes as base64 or as a reference."},
            "steps": {"type": "array", "items": component("schemas", "RunStep")},
            "steps_total": {"type": "integer"},
            "steps_next": {"type": ["integer", "null"]},
            "progress": {"type": "array", "items": component("schemas", "RunProgress")},
        }
    ),
    "RunCost": an_object(
        {
            "run": {"type": "string"},
            "workflow": {"type": "string"},
            "revision": {"type": "string"},
            "state": {"enum": [state.value for state in RunState]},
            "retry_of": {"type": ["string", "null"]},
            "currency": {"type": "string"},
            **_SPENT,
            "steps": {"type": "array", "items": component("schemas", "StepCost")},
        }
    ),
    "StepCost": an_object(
        {
            "id": {"type": "string"},
            "items": {"type": "integer"},
            "retries": {"type": "integer"},
            "cached": {"type": "integer"},
            "taken_over": {"type": "integer"},
            **_SPENT,
            "attempts": {"type": "array", "items": component("schemas", "AttemptCost")},
            "note": {"type": "string"},
        }
    ),
    "AttemptCost": an_object(
        {
            "attempt": {"type": "integer"},
            "status": {"enum": list(STATUSES)},
            "function": {"type": "string"},
            "device_class": {"type": "string"},
            **_SPENT,
        }
    ),
}


RUN_RESPONSES: Document = {
    "200": {
        "description": "What the workflow gave; or its run as server-sent events.",
        "headers": _HEADERS,
        "content": {**content("*/*", {}), **content(EVENT_STREAM, {"type": "string"})},
    },
    "202": {
        "description": "The run is stored and goes on.",
        "headers": {"Location": _LOCATION, "Dsfn-Run-Id": _RUN_ID},
        "content": content(JSON_CONTENT_TYPE, component("schemas", "RunSummary")),
    },
    **ERRORS,
}


def workflow_paths(workflows: Sequence[Dag], schemas: Document) -> Document:
    """A path for each workflow, and those of runs."""
    paths = {f"/workflows/{dag.name}": {"post": _operation(dag, schemas)} for dag in workflows}
    return {**paths, **_RUN_PATHS}


def _operation(dag: Dag, schemas: Document) -> Document:
    operation: Document = {
        "operationId": "run_" + dag.name.replace("-", "_"),
        "tags": ["workflows"],
        "summary": dag.description.strip().partition("\n")[0] or dag.name,
        "parameters": [PREFER, IDEMPOTENCY_KEY],
        "requestBody": {
            "required": any(one.required for one in dag.inputs),
            "content": _request(dag, schemas),
        },
        "responses": RUN_RESPONSES,
    }
    if dag.description.strip():
        operation["description"] = dag.description
    return operation


def _request(dag: Dag, schemas: Document) -> Document:
    values = {one.name: _input(dag.name, one, schemas) for one in dag.inputs}
    body: Document = {
        "type": "object",
        "required": [one.name for one in dag.inputs if one.required],
        "properties": values,
        "additionalProperties": False,
    }
    found = content(JSON_CONTENT_TYPE, body)
    if dag.inputs:
        found |= content(MULTIPART_CONTENT_TYPE, {"type": "object"})
    if len(dag.inputs) == 1 and dag.inputs[0].kind not in ("json", "event"):
        found |= content(CONTENT_TYPES[dag.inputs[0].kind], {})
    return found | content(EVENT_CONTENT_TYPE, component("schemas", "CloudEvent"))


def _input(workflow: str, one: WorkflowInput, schemas: Document) -> Document:
    if one.kind == "json":
        value = hoist(one.schema, f"{workflow}.{one.name}", schemas)
    elif one.kind == "event":
        value = component("schemas", "CloudEvent")
    else:
        value = part_schema(one.kind)
    return {"type": "array", "items": value, "maxItems": MAX_ITEMS} if one.many else value


def _of_a_run(
    summary: str,
    operation: str,
    answer: Document,
    method: str = "get",
    parameters: Sequence[Document] = (),
) -> Document:
    described = {
        "operationId": operation,
        "tags": ["runs"],
        "summary": summary,
        "parameters": list(parameters),
        "responses": {**answer, **ERRORS},
    }
    return {"parameters": [path_parameter("id", "The id of the run.")], method: described}


def _answer(description: str, media: str, schema: Document, status: str = "200") -> Document:
    return {status: {"description": description, "content": content(media, schema)}}


_RUN, _RUN_SUMMARY = component("schemas", "Run"), component("schemas", "RunSummary")
_COUNT: Document = {"type": "integer", "minimum": 0}
_PAGE: dict[str, Any] = an_object(
    {
        "runs": {"type": "array", "items": _RUN_SUMMARY},
        "next": {"type": ["string", "null"]},
    }
)
_RUN_PATHS: Document = {
    "/runs": {
        "get": {
            "operationId": "list_runs",
            "tags": ["runs"],
            "summary": "Runs, those that started last first",
            "parameters": [
                query("workflow", {"type": "string"}),
                query("state", {"enum": [state.value for state in RunState]}),
                query("tenant", {"type": "string"}),
                query("limit", {"type": "integer", "minimum": 1, "maximum": 1000}),
                query("before", {"type": "string"}),
            ],
            "responses": {**_answer("A page.", JSON_CONTENT_TYPE, _PAGE), **ERRORS},
        }
    },
    "/runs/{id}": _of_a_run(
        "A run in full",
        "get_run",
        _answer("The run.", JSON_CONTENT_TYPE, _RUN),
        parameters=(query("limit", _COUNT), query("after", _COUNT)),
    ),
    "/runs/{id}/output": _of_a_run(
        "The result of a run", "get_run_output", _answer("The result.", "*/*", {})
    ),
    "/runs/{id}/cost": _of_a_run(
        "What a run cost, by step and attempt",
        "get_run_cost",
        _answer("Its cost.", JSON_CONTENT_TYPE, component("schemas", "RunCost")),
    ),
    "/runs/{id}/events": _of_a_run(
        "How a run goes, until it has ended",
        "get_run_events",
        _answer("Events `run` and `step`.", EVENT_STREAM, {"type": "string"}),
    ),
    "/runs/{id}/cancel": _of_a_run(
        "Call a run off",
        "cancel_run",
        {
            **_answer("It has ended.", JSON_CONTENT_TYPE, _RUN_SUMMARY),
            **_answer("Its calls are being stopped.", JSON_CONTENT_TYPE, _RUN_SUMMARY, "202"),
        },
        "post",
    ),
    "/runs/{id}/retry": _of_a_run(
        "Go on where a run ended, as a new one",
        "retry_run",
        {
            "201": {
                "description": "The new run.",
                "headers": {"Location": _LOCATION},
                "content": content(JSON_CONTENT_TYPE, _RUN_SUMMARY),
            }
        },
        "post",
    ),
}
