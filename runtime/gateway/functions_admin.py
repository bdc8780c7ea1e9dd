"""The admin API of deployed functions: what there is, which revision serves, what it printed."""

from __future__ import annotations

import asyncio
import math

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from dsfn.functions.errors import InvalidInput
from dsfn.runtime.gateway.admin_documents import (
    function_document,
    revision_document,
    summary_document,
)
from dsfn.runtime.gateway.ndjson import NDJSON_CONTENT_TYPE, NdjsonResponse
from dsfn.runtime.gateway.request import read_object
from dsfn.runtime.model import ReplicaState
from dsfn.runtime.services import Services
from dsfn.runtime.workflows.removing import remove_function


async def list_functions(request: Request) -> Response:
    """GET /functions."""
    services: Services = request.app.state.services
    records = services.registry.functions()
    return JSONResponse({"functions": [summary_document(request, record) for record in records]})


async def describe_function(request: Request) -> Response:
    """GET /functions/{name}."""
    services: Services = request.app.state.services
    record = services.registry.function(request.path_params["name"])
    return JSONResponse(function_document(request, record))


async def delete_function(request: Request) -> Response:
    """DELETE /functions/{name}: 409 while a workflow calls it."""
    services: Services = request.app.state.services
    remove_function(request.path_params["name"], services.registry, services.workflows)
    await services.serving.reconcile()
    return Response(status_code=204)


async def history(request: Request) -> Response:
    """GET /functions/{name}/history: revisions, newest first."""
    services: Services = request.app.state.services
    entries = services.registry.history(request.path_params["name"])
    return JSONResponse({"revisions": [revision_document(entry) for entry in entries]})


async def rollback(request: Request) -> Response:
    """POST /functions/{name}/rollback {"revision": id or null}."""
    services: Services = request.app.state.services
    name = request.path_params["name"]
    target = (await read_object(request, services.settings.limits)).get("revision")
    if target is not None and not isinstance(target, str):
        raise InvalidInput("The revision is an id, or null for the one before.", field="revision")
    revision = services.registry.rollback(name, target)
    await services.serving.reconcile()
    return JSONResponse({"name": name, "revision": revision.id})


async def set_traffic(request: Request) -> Response:
    """PUT /functions/{name}/traffic {"traffic": {revision: percent}}."""
    services: Services = request.app.state.services
    name = request.path_params["name"]
    percents = (await read_object(request, services.settings.limits)).get("traffic")
    if not isinstance(percents, dict):
        raise InvalidInput("The traffic is an object of percents by revision.", field="traffic")
    traffic = services.registry.set_traffic(name, percents)
    await services.serving.reconcile()
    return JSONResponse({"name": name, "traffic": dict(traffic)})


async def park(request: Request) -> Response:
    """POST /functions/{name}/park {"to": "parked" | "frozen" | "absent"}: replicas at rest give
    up what they hold now, instead of when somebody needs it or their time has come."""
    services: Services = request.app.state.services
    name = services.registry.function(request.path_params["name"]).name
    to = (await read_object(request, services.settings.limits)).get("to", ReplicaState.PARKED.value)
    if to not in ("parked", "frozen", "absent"):
        raise InvalidInput('`to` is "parked", "frozen" or "absent".', field="to")
    count = await services.serving.rest(name, ReplicaState(to))
    return JSONResponse({"name": name, "to": to, "replicas": count})


async def logs(request: Request) -> Response:
    """GET /functions/{name}/logs?since=SECONDS&follow=true: what it printed, a line each.

    `since` counts back from now; without it all that is kept comes. With `follow`
    the answer goes on until the client goes away.
    """
    services: Services = request.app.state.services
    name = services.registry.function(request.path_params["name"]).name
    since_us = _since_us(request, services.clock.now_us())
    if follows(request):
        return NdjsonResponse(services.logs.follow(name, since_us))
    lines = await asyncio.to_thread(services.logs.read, name, since_us)
    return StreamingResponse(lines, media_type=NDJSON_CONTENT_TYPE)


def _since_us(request: Request, now_us: int) -> int:
    text = request.query_params.get("since")
    if text is None:
        return 0
    try:
        since_s = float(text)
    except ValueError:
        since_s = math.nan
    if not 0 <= since_s < math.inf:
        raise InvalidInput(f"since is a number of seconds, not {text!r}.", field="since")
    return max(0, now_us - int(since_s * 1_000_000))


def follows(request: Request) -> bool:
    """Whether the query asks to go on with what comes. Raises `InvalidInput`."""
    text = request.query_params.get("follow", "false")
    if text not in ("true", "false"):
        raise InvalidInput(f"follow is true or false, not {text!r}.", field="follow")
    return text == "true"


ROUTES = [
    Route("/functions", list_functions, methods=["GET"]),
    Route("/functions/{name}", describe_function, methods=["GET"]),
    Route("/functions/{name}", delete_function, methods=["DELETE"]),
    Route("/functions/{name}/history", history, methods=["GET"]),
    Route("/functions/{name}/rollback", rollback, methods=["POST"]),
    Route("/functions/{name}/traffic", set_traffic, methods=["PUT"]),
    Route("/functions/{name}/park", park, methods=["POST"]),
    Route("/functions/{name}/logs", logs, methods=["GET"]),
]
