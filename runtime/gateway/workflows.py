"""Workflows over HTTP: what is deployed, how it looks, and runs of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.functions.errors import DsfnError, RunCancelled, ShuttingDown, from_document
from dsfn.functions.event import Event
from dsfn.functions.interface import JSON_CONTENT_TYPE
from dsfn.functions.negotiation import choose
from dsfn.functions.values import dataclass
from dsfn.runtime.events.binding import encode_event, event_of_request
from dsfn.runtime.events.results import follow
from dsfn.runtime.events.stored import StoredBody, load_body
from dsfn.runtime.gateway.access import identity_of, require_own_blobs
from dsfn.runtime.gateway.calls import (
    ClientWatch,
    idempotency_key,
    prefers_async,
)
from dsfn.runtime.gateway.pictures import picture
from dsfn.runtime.gateway.request import headers_of
from dsfn.runtime.gateway.run_documents import has_ended, output_value, run_summary, value_of
from dsfn.runtime.gateway.run_progress import run_events
from dsfn.runtime.gateway.server_sent import (
    EVENT_STREAM,
    EventStreamResponse,
    server_sent_event,
)
from dsfn.runtime.gateway.workflow_documents import (
    history_document,
    workflow_document,
    workflow_summary,
)
from dsfn.runtime.problems import problem_document, problem_response
from dsfn.runtime.services import Services
from dsfn.runtime.workflows.model import NewRun, RunRecord, RunState

SUCCEEDED_TYPE = "dev.dsfn.run.succeeded"
# How long a node that stops may be unknown to somebody who waits for a run.
_LOOK_S = 0.5


async def list_workflows(request: Request) -> Response:
    """GET /workflows."""
    services: Services = request.app.state.services
    found = [workflow_summary(request, one) for one in services.workflows.all()]
    return JSONResponse({"workflows": found})


async def describe_workflow(request: Request) -> Response:
    """GET /workflows/{name}."""
    services: Services = request.app.state.services
    record = services.workflows.record(request.path_params["name"])
    return JSONResponse(workflow_document(request, record))


async def history(request: Request) -> Response:
    """GET /workflows/{name}/history: revisions, newest first."""
    services: Services = request.app.state.services
    record = services.workflows.record(request.path_params["name"])
    return JSONResponse({"revisions": history_document(record)})


async def graph(request: Request) -> Response:
    """GET /workflows/{name}/graph?format=mermaid|svg: a picture."""
    services: Services = request.app.state.services
    dag = services.workflows.find(request.path_params["name"]).dag
    return await picture(request, dag)


async def delete_workflow(request: Request) -> Response:
    """DELETE /workflows/{name}: runs that are under way go on."""
    services: Services = request.app.state.services
    services.workflows.delete(request.path_params["name"])
    return Response(status_code=204)


async def start(request: Request) -> Response:
    """POST /workflows/{name}: starts a run and answers with its result; with `Prefer:
    respond-async` with where it is, and as server-sent events with how far it is, too."""
    return await answer_run(request, await _start(request.app.state.services, request))


async def answer_run(request: Request, started: Started) -> Response:
    """The answer to a request that started a run, in the form that it prefers."""
    services: Services = request.app.state.services
    run = started.run
    if prefers_async(request.scope):
        return _accepted(services, started)
    if EVENT_STREAM in started.accept:
        return EventStreamResponse(_events(services, run), dict(_headers(started)))
    try:
        async with ClientWatch(request.receive):
            record = await _ended(services, run)
    except ShuttingDown as error:
        return _problem(services, started, error)
    if record.state is not RunState.SUCCEEDED:
        return _problem(services, started, run_error(record), record)
    try:
        return await _answer(services, started, record)
    except DsfnError as error:
        return _problem(services, started, error, record)


@dataclass(frozen=True, slots=True)
class Started:
    """A run that was asked for. `replayed`: it was there already."""

    run: str
    revision: str
    replayed: bool
    accept: str
    event: Event | None
    headers: dict[bytes, bytes]


async def _start(services: Services, request: Request) -> Started:
    """Starts the run that a request asks for; when this returns, it is durable."""
    identity, headers = identity_of(request), headers_of(request.scope)
    identity.require_callable(request.path_params["name"])
    body = await services.bodies.read(headers, request.receive)
    try:
        require_own_blobs(services, identity, body)
        event = event_of_request(headers, body)
        new = await _new_run(services, request, body, event)
        accept = headers.get(b"accept", b"*/*").decode("latin-1")
        return await started_run(services, new, accept, headers, event)
    finally:
        services.bodies.release(body)


async def started_run(
    services: Services,
    new: NewRun,
    accept: str,
    headers: dict[bytes, bytes],
    event: Event | None = None,
) -> Started:
    """Starts a run; when this returns, it is durable."""
    run = await services.runs.start(new)
    replayed = run != new.id
    revision = services.runs.store.get(run).revision if replayed else new.revision.id
    return Started(run, revision, replayed, accept, event, headers)


async def _new_run(
    services: Services, request: Request, body: bytes, event: Event | None
) -> NewRun:
    name, payer = request.path_params["name"], identity_of(request).payer
    if event is not None:
        return await services.starter.from_event(
            name, event, tenant=payer.tenant, key_id=payer.key_id
        )
    key = request.headers.get("idempotency-key")
    return await services.starter.from_request(
        name,
        request.headers.get("content-type", JSON_CONTENT_TYPE),
        body,
        tenant=payer.tenant,
        key_id=payer.key_id,
        caller=request.client.host if request.client else "",
        idempotency_key=None if key is None else idempotency_key(key),
        traceparent=request.headers.get("traceparent"),
    )


async def _ended(services: Services, run: str) -> RunRecord:
    """The run once it has ended. Raises `ShuttingDown` when the node stops before."""
    waiting = asyncio.ensure_future(services.runs.wait(run))
    try:
        while services.life.accepts_calls:
            if (await asyncio.wait({waiting}, timeout=_LOOK_S))[0]:
                return waiting.result()
    finally:
        waiting.cancel()
    raise ShuttingDown(
        f"The node stops; the run {run} goes on when it starts again.", retry_after_s=1
    )


async def _events(services: Services, run: str) -> AsyncGenerator[bytes, None]:
    """How a run goes, and at last `result` or `error`."""
    async with aclosing(run_events(services, run)) as events:
        async for event in events:
            yield event
    record = services.runs.store.get(run)
    if record.output is not None:
        yield server_sent_event("result", output_value(record.output))
    elif has_ended(record):
        yield server_sent_event("error", problem_document(run_error(record)))


async def _answer(services: Services, started: Started, record: RunRecord) -> Response:
    """The result alone, in the type that the client wants."""
    output = record.output
    assert output is not None
    data = await load_body(services.blobs, StoredBody(output.inline, output.ref))
    content_type = output.content_type
    headers = [*_headers(started), *_charge_headers(services, record)]
    if started.event is not None:
        said, data = encode_event(_reply(record, data, started.event), started.headers)
        headers += [(name.decode(), value.decode("latin-1")) for name, value in said]
    else:
        available = tuple(dict.fromkeys((content_type, JSON_CONTENT_TYPE)))
        if choose(started.accept, available) != content_type:
            value = await asyncio.to_thread(value_of, output, data)
            return JSONResponse(value, headers=dict(headers))
        headers.append(("content-type", content_type))
    return Response(data, headers=dict(headers))


def _reply(record: RunRecord, data: bytes, cause: Event) -> Event:
    """The event that answers one: the one that the workflow gave, or one that carries it."""
    assert record.output is not None
    return follow(
        Event(
            id=f"{record.id}.{record.state}",
            source=f"/runs/{record.id}",
            type=SUCCEEDED_TYPE,
            subject=record.workflow,
            datacontenttype=record.output.content_type,
            data=data,
        ),
        cause,
    )


def _accepted(services: Services, started: Started) -> Response:
    record = services.runs.store.get(started.run)
    return JSONResponse(
        run_summary(record, services.rates.book.currency),
        status_code=202,
        headers={**dict(_headers(started)), "preference-applied": "respond-async"},
    )


def _problem(
    services: Services, started: Started, error: DsfnError, record: RunRecord | None = None
) -> Response:
    error.add_fields(run=started.run)
    response = problem_response(error)
    response.headers.update(dict(_headers(started)))
    if record is not None:
        response.headers.update(dict(_charge_headers(services, record)))
    return response


def run_error(record: RunRecord) -> DsfnError:
    """Why a run has no result."""
    if record.error is None:
        return RunCancelled("The run was cancelled.", run=record.id)
    error = from_document(record.error)
    error.add_fields(run=record.id)
    return error


def _headers(started: Started) -> list[tuple[str, str]]:
    found = [
        ("location", f"/runs/{started.run}"),
        ("dsfn-run-id", started.run),
        ("dsfn-revision", started.revision),
    ]
    return [*found, ("dsfn-replayed", "true")] if started.replayed else found


def _charge_headers(services: Services, record: RunRecord) -> list[tuple[str, str]]:
    """What the whole run took and costs."""
    assert record.finished_at_us is not None
    wall_ms = (record.finished_at_us - record.started_at_us) / 1000
    return [
        ("server-timing", f"run;dur={wall_ms:.3f}"),
        ("dsfn-held-us", str(record.held_us)),
        ("dsfn-cost-nano", str(record.cost_nano)),
        ("dsfn-currency", services.rates.book.currency),
    ]


ROUTES = [
    Route("/workflows", list_workflows, methods=["GET"]),
    Route("/workflows/{name}", describe_workflow, methods=["GET"]),
    Route("/workflows/{name}", start, methods=["POST"]),
    Route("/workflows/{name}", delete_workflow, methods=["DELETE"]),
    Route("/workflows/{name}/graph", graph, methods=["GET"]),
    Route("/workflows/{name}/history", history, methods=["GET"]),
]
