"""Events that a broker elsewhere could not deliver to a function: dead letters as the node's own.

Knative's brokers say in extensions of the event why: `knativeerrorcode`, the HTTP status, and
`knativeerrordata`, the start of the answer in base64.
Source: https://knative.dev/docs/eventing/event-delivery/#configuring-channel-event-delivery
"""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from hmac import compare_digest

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dsfn.functions.errors import DsfnError, Unauthenticated, Unavailable
from dsfn.functions.event import Event
from dsfn.runtime.access.letterbox import letterbox_of
from dsfn.runtime.events.binding import events_of_request
from dsfn.runtime.events.sameness import KNATIVE
from dsfn.runtime.gateway.request import headers_of
from dsfn.runtime.problem_reading import problem_error
from dsfn.runtime.services import Services

_WHY = f"{KNATIVE}error"


async def take(request: Request) -> Response:
    """POST /functions/{name}/deadletters/{secret}: 204 once the events are dead letters; one that
    is sent again is none again."""
    services: Services = request.app.state.services
    name, secret = request.path_params["name"], request.path_params["secret"]
    if not compare_digest(secret.encode(), letterbox_of(services.access.local_key, name).encode()):
        raise Unauthenticated("This is no letterbox.")
    services.registry.function(name)
    headers = headers_of(request.scope)
    body = await services.bodies.read(headers, request.receive)
    try:
        for event in events_of_request(headers, body):
            await services.router.give_up(_as_it_was(event), name, _why(event, name))
    finally:
        services.bodies.release(body)
    return Response(status_code=204)


def _as_it_was(event: Event) -> Event:
    kept = {name: v for name, v in event.extensions.items() if not name.startswith(KNATIVE)}
    return replace(event, extensions=kept)


def _why(event: Event, function: str) -> DsfnError:
    """The function's own error where the broker tells all of it, else what is known."""
    told = str(event.extensions.get(f"{_WHY}data", ""))
    try:
        return problem_error(json.loads(b64decode(told)))
    except (ValueError, TypeError, AttributeError):
        code = event.extensions.get(f"{_WHY}code")
        answer = "no answer came" if code is None else f"the answer was HTTP status {code}"
        return Unavailable(f"A broker could not deliver the event to {function}: {answer}.")


ROUTES = [Route("/functions/{name}/deadletters/{secret}", take, methods=["POST"])]
