"""Runs of workflows over HTTP: what they are at, what came of them, and how to end one."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.functions.errors import Conflict, InvalidInput
from dsfn.functions.workflow.document import to_document
from dsfn.runtime.events.stored import StoredBody, load_body
from dsfn.runtime.gateway.access import identity_of, tenant_asked_for
from dsfn.runtime.gateway.functions_admin import follows
from dsfn.runtime.gateway.ndjson import NdjsonResponse
from dsfn.runtime.gateway.pictures import picture
from dsfn.runtime.gateway.run_costs import cost_of
from dsfn.runtime.gateway.run_documents import (
    MAX_STEPS_SHOWN,
    all_steps,
    has_ended,
    run_summary,
)
from dsfn.runtime.gateway.run_logs import run_logs
from dsfn.runtime.gateway.run_overview import overview
from dsfn.runtime.gateway.run_progress import described, run_events
from dsfn.runtime.gateway.server_sent import EventStreamResponse
from dsfn.runtime.gateway.workflows import run_error
from dsfn.runtime.invoke import new_call_id
from dsfn.runtime.services import Services
from dsfn.runtime.workflows.model import RunRecord, RunState
from dsfn.runtime.workflows.store import no_such_run

MAX_RUNS_LISTED = 1_000
DEFAULT_RUNS_LISTED = 100
# Code that runs gets `cancel_grace_s` to stop; the answer waits as long, and this much.
_CANCEL_MARGIN_S = 1.0


async def list_runs(request: Request) -> Response:
    """GET /runs?workflow=NAME&state=STATE&tenant=T&limit=N&before=ID: those that started last
    first.

    `next` is the `before` of the next page, null when there is none.
    """
    services: Services = request.app.state.services
    query = request.query_params
    limit = number(request, "limit", DEFAULT_RUNS_LISTED, 1, MAX_RUNS_LISTED)
    found = services.runs.store.list(
        query.get("workflow"),
        _state(query.get("state")),
        limit + 1,
        query.get("before"),
        tenant_asked_for(request),
    )
    shown, currency = found[:limit], services.rates.book.currency
    return JSONResponse(
        {
            "runs": [run_summary(run, currency) for run in shown],
            "next": shown[-1].id if len(found) > limit else None,
        }
    )


async def show_run(request: Request) -> Response:
    """GET /runs/{id}?limit=N&after=N: all about a run; of its steps `limit` after the first
    `after`. `steps_next` is the `after` of the next page."""
    services: Services = request.app.state.services
    limit = number(request, "limit", MAX_STEPS_SHOWN, 0, MAX_STEPS_SHOWN)
    after = number(request, "after", 0, 0, 1 << 31)
    page = slice(after, after + limit)
    return JSONResponse(await described(services, run_of(request), page))


async def output(request: Request) -> Response:
    """GET /runs/{id}/output: the result itself, or the error that came instead."""
    services: Services = request.app.state.services
    run = run_of(request)
    if not has_ended(run):
        raise Conflict(f"Run {run.id} has not ended yet; it is {run.state}.", run=run.id)
    if run.output is None:
        raise run_error(run)
    data = await load_body(services.blobs, StoredBody(run.output.inline, run.output.ref))
    # A browser must not make a page of what a function gave by guessing.
    headers = {"Content-Type": run.output.content_type, "X-Content-Type-Options": "nosniff"}
    return Response(data, headers=headers)


async def cost(request: Request) -> Response:
    """GET /runs/{id}/cost: what it cost, by step and attempt."""
    services: Services = request.app.state.services
    return JSONResponse(await cost_of(services, run_of(request)))


async def graph(request: Request) -> Response:
    """GET /runs/{id}/graph?format=mermaid|svg: a picture with states, times and costs."""
    services: Services = request.app.state.services
    run = run_of(request)
    workflow = services.workflows.revision(run.revision).dag
    steps = await all_steps(services.runs, run.id)
    now_us = services.clock.now_us()
    found = await asyncio.to_thread(overview, workflow, steps, run.state, now_us)
    return await picture(request, workflow, found, services.rates.book.currency)


async def dag(request: Request) -> Response:
    """GET /runs/{id}/dag: the workflow that it goes through, whatever is deployed now."""
    services: Services = request.app.state.services
    revision = services.workflows.revision(run_of(request).revision)
    return JSONResponse({"revision": revision.id, "dag": to_document(revision.dag)})


async def events(request: Request) -> Response:
    """GET /runs/{id}/events: server-sent events until the run has ended."""
    services: Services = request.app.state.services
    return EventStreamResponse(run_events(services, run_of(request).id))


async def logs(request: Request) -> Response:
    """GET /runs/{id}/logs?follow=true: what its calls printed, a line of JSON each."""
    services: Services = request.app.state.services
    return NdjsonResponse(run_logs(services, run_of(request), follows(request)))


async def cancel(request: Request) -> Response:
    """POST /runs/{id}/cancel: 200 with the run once it has ended, 202 while its calls take their
    time to stop."""
    services: Services = request.app.state.services
    id_ = _own_run(request).id
    services.runs.cancel(id_)
    patience_s = services.settings.limits.cancel_grace_s + _CANCEL_MARGIN_S
    try:
        async with asyncio.timeout(patience_s):
            run = await services.runs.wait(id_)
    except TimeoutError:
        run = services.runs.store.get(id_)
    status = 200 if has_ended(run) else 202
    return JSONResponse(run_summary(run, services.rates.book.currency), status_code=status)


async def retry(request: Request) -> Response:
    """POST /runs/{id}/retry: 201 with a new run that goes on where this one ended."""
    services: Services = request.app.state.services
    new = await retried(services, _own_run(request).id)
    document = run_summary(services.runs.store.get(new), services.rates.book.currency)
    return JSONResponse(document, status_code=201, headers={"Location": f"/runs/{new}"})


async def retried(services: Services, run: str) -> str:
    """Starts a run that takes over what another finished; gives its id."""
    return await services.runs.retry(run, new_call_id(services.clock.now_us()))


def number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A whole number of the query. Raises `InvalidInput`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else -1
    if not least <= value <= most:
        raise InvalidInput(
            f"{name} is a whole number from {least} to {most}, not {text!r}.", field=name
        )
    return value


def run_of(request: Request) -> RunRecord:
    """The run that a path names. Raises `NotFound` for one of another tenant, too."""
    services: Services = request.app.state.services
    run = services.runs.store.get(request.path_params["id"])
    if not identity_of(request).sees(run.tenant):
        raise no_such_run(run.id)
    return run


def _own_run(request: Request) -> RunRecord:
    """The same to change something about it. Raises `Forbidden`, too."""
    run = run_of(request)
    identity_of(request).require_callable(run.workflow)
    return run


def _state(text: str | None) -> RunState | None:
    if text is None:
        return None
    try:
        return RunState(text)
    except ValueError:
        known = ", ".join(RunState)
        raise InvalidInput(f"state is one of {known}, not {text!r}.", field="state") from None


ROUTES = [
    Route("/runs", list_runs, methods=["GET"]),
    Route("/runs/{id}", show_run, methods=["GET"]),
    Route("/runs/{id}/output", output, methods=["GET"]),
    Route("/runs/{id}/cost", cost, methods=["GET"]),
    Route("/runs/{id}/dag", dag, methods=["GET"]),
    Route("/runs/{id}/graph", graph, methods=["GET"]),
    Route("/runs/{id}/events", events, methods=["GET"]),
    Route("/runs/{id}/logs", logs, methods=["GET"]),
    Route("/runs/{id}/cancel", cancel, methods=["POST"]),
    Route("/runs/{id}/retry", retry, methods=["POST"]),
]
