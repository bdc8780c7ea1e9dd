"""POST /events, and the subscriptions that say where events go."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.functions.errors import MalformedBody
from dsfn.functions.interface import FilterInterface
from dsfn.functions.invalid import invalid
from dsfn.runtime.events.binding import events_of_request
from dsfn.runtime.gateway.access import identity_of, require_own_blobs
from dsfn.runtime.gateway.admin_documents import subscription_document
from dsfn.runtime.gateway.request import BodyReader, headers_of
from dsfn.runtime.services import Services

_ATTRIBUTE = re.compile("[a-z0-9]{1,64}")
_DIALECTS = ("exact", "prefix", "suffix")


async def accept(request: Request) -> Response:
    """POST /events: 202 once the events are stored with their deliveries, whose number it gives."""
    services: Services = request.app.state.services
    identity, headers = identity_of(request), headers_of(request.scope)
    identity.require_unlimited()
    body = await services.bodies.read(headers, request.receive)
    try:
        require_own_blobs(services, identity, body)
        events = events_of_request(headers, body)
        deliveries = await services.router.accept(events, identity.payer)
    finally:
        services.bodies.release(body)
    return JSONResponse({"events": len(events), "deliveries": deliveries}, status_code=202)


async def subscribe(request: Request) -> Response:
    """POST /subscriptions: has the events that match the filters call a function, or start runs
    of a workflow."""
    services: Services = request.app.state.services
    try:
        document = json.loads(await _body(request))
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"The body is not JSON ({error}).") from error
    if not isinstance(document, dict):
        raise MalformedBody("The body must be a JSON object.")
    if unknown := sorted(set(document) - {"function", *_DIALECTS}):
        raise invalid(unknown[0], "is not part of a subscription")
    function = document.get("function")
    if not isinstance(function, str):
        raise invalid("function", "must name a function or workflow")
    filters = {dialect: _conditions(document, dialect) for dialect in _DIALECTS}
    if not any(filters.values()):
        raise invalid("exact", "needs a condition, as 'prefix' or 'suffix' may have instead")
    wanted = FilterInterface(**filters)
    services.serving.require_filter(wanted, function)
    subscription = services.subscriptions.add(function, wanted)
    await services.serving.reconcile()
    return JSONResponse(subscription_document(subscription), status_code=201)


async def subscriptions(request: Request) -> Response:
    """GET /subscriptions: every subscription."""
    services: Services = request.app.state.services
    found = [subscription_document(s) for s in services.subscriptions.all()]
    return JSONResponse({"subscriptions": found})


async def unsubscribe(request: Request) -> Response:
    """DELETE /subscriptions/{id}: 204 once no event goes that way any more."""
    services: Services = request.app.state.services
    services.subscriptions.remove(request.path_params["id"])
    await services.serving.reconcile()
    return Response(status_code=204)


async def _body(request: Request) -> bytes:
    services: Services = request.app.state.services
    reader = BodyReader(services.settings.limits)
    return await reader.read(headers_of(request.scope), request.receive)


def _conditions(document: Mapping[str, object], dialect: str) -> dict[str, str]:
    conditions = document.get(dialect, {})
    if not isinstance(conditions, dict):
        raise invalid(dialect, "must be an object of attributes and texts")
    for attribute, text in conditions.items():
        if not _ATTRIBUTE.fullmatch(attribute):
            raise invalid(f"{dialect}.{attribute}", "is not the name of an event's attribute")
        if not isinstance(text, str) or not text:
            raise invalid(f"{dialect}.{attribute}", "must be a text that is not empty")
    return conditions


ROUTES = [
    Route("/events", accept, methods=["POST"]),
    Route("/subscriptions", subscribe, methods=["POST"]),
    Route("/subscriptions", subscriptions, methods=["GET"]),
    Route("/subscriptions/{id}", unsubscribe, methods=["DELETE"]),
]
