"""What a node says of itself: health, status, metrics, OpenAPI."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import dsfn
from dsfn.functions.errors import ShuttingDown
from dsfn.runtime.clock import rfc3339
from dsfn.runtime.gateway.admin_documents import node_url
from dsfn.runtime.gateway.openapi import openapi_document
from dsfn.runtime.problems import problem_response
from dsfn.runtime.services import Services


async def liveness(request: Request) -> Response:
    """200 while the node's event loop turns."""
    return PlainTextResponse("ok")


async def readiness(request: Request) -> Response:
    """200 while the node takes calls, 503 while it starts or drains."""
    services: Services = request.app.state.services
    if not services.life.accepts_calls:
        return problem_response(ShuttingDown("The node is not taking calls.", retry_after_s=1))
    return PlainTextResponse("ok")


async def status(request: Request) -> Response:
    """The node in one document."""
    services: Services = request.app.state.services
    replicas: Counter[str] = Counter()
    for (_, state), number in services.serving.counts().items():
        replicas[state] += number
    memory = await _memory(services)
    return JSONResponse(
        {
            "url": node_url(request),
            "pid": os.getpid(),
            "version": dsfn.__version__,
            "started_at": rfc3339(services.life.started_at_us),
            "data_dir": str(services.settings.data_dir),
            "functions": len(services.registry.functions()),
            "replicas": dict(replicas),
            "device_class": services.gpus.device_class(),
            "memory": memory,
            "memory_fault": services.gpus.why_no_owner() if memory is None else None,
            "events": {
                "queued": services.queue.queued_count(),
                "dead": services.queue.dead_count(),
            },
        }
    )


async def _memory(services: Services) -> dict[str, Any] | None:
    """What the memory owner holds, and the spare workers that have a context already."""
    report = await services.gpus.report()
    return None if report is None else {**report, "warm": services.serving.spares()}


async def metrics(request: Request) -> Response:
    """Prometheus exposition."""
    services: Services = request.app.state.services
    return Response(services.metrics.exposition(), media_type="text/plain; version=0.0.4")


async def openapi(request: Request) -> Response:
    """The OpenAPI description of every deployed function and workflow."""
    services: Services = request.app.state.services
    registry = services.registry
    serving = [registry.route(record.name) for record in registry.functions()]
    pairs = [(revision.options, revision.interface) for revision in serving]
    workflows = [revision.dag for revision in services.workflows.all()]
    url = node_url(request)
    needs_key = services.settings.auth.required
    return JSONResponse(openapi_document(pairs, dsfn.__version__, url, workflows, needs_key))


ROUTES = [
    Route("/health/liveness", liveness, methods=["GET"]),
    Route("/health/readiness", readiness, methods=["GET"]),
    Route("/status", status, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
    Route("/openapi.json", openapi, methods=["GET"]),
]
