"""What became of calls that nobody waited for."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.functions.errors import Conflict, from_document
from dsfn.runtime.clock import rfc3339
from dsfn.runtime.events.delivery import DeliveryState, Invocation
from dsfn.runtime.events.queue import no_such_invocation
from dsfn.runtime.gateway.access import identity_of
from dsfn.runtime.gateway.calls import answer_headers
from dsfn.runtime.problems import problem_document
from dsfn.runtime.services import Services

_SHOWN = {DeliveryState.DEAD: DeliveryState.FAILED}


async def invocation(request: Request) -> Response:
    """GET /invocations/{id}: its state."""
    return JSONResponse(_document(_found(request)))


async def result(request: Request) -> Response:
    """GET /invocations/{id}/result: the answer itself, or the error that came instead."""
    services: Services = request.app.state.services
    found = _found(request)
    if found.finished_at_us is None:
        raise Conflict(f"Invocation {found.id} has not ended yet; it is {found.state}.")
    if found.error is not None:
        raise from_document(found.error)
    answer = await services.queue.result(found.id)
    response = Response(answer.body, headers={"Content-Type": answer.content_type})
    response.raw_headers.extend(answer_headers(answer))
    return response


def _found(request: Request) -> Invocation:
    """The invocation that a path names. Raises `NotFound` for one of another tenant, too."""
    services: Services = request.app.state.services
    found = services.queue.get(request.path_params["id"])
    if not identity_of(request).sees(found.tenant):
        raise no_such_invocation(found.id)
    return found


def _document(found: Invocation) -> dict[str, Any]:
    ended = found.finished_at_us
    error = from_document(found.error) if found.error is not None else None
    has_result = found.state is DeliveryState.SUCCEEDED
    return {
        "id": found.id,
        "function": found.function,
        "revision": found.revision,
        "state": _SHOWN.get(found.state, found.state),
        "attempts": found.attempts,
        "created_at": rfc3339(found.created_at_us),
        "finished_at": rfc3339(ended) if ended is not None else None,
        "error": problem_document(error, found.id) if error is not None else None,
        "result": f"/invocations/{found.id}/result" if has_result else None,
    }


ROUTES = [
    Route("/invocations/{id}", invocation, methods=["GET"]),
    Route("/invocations/{id}/result", result, methods=["GET"]),
]
