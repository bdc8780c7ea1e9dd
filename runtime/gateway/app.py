"""The gateway: every route of a node in one Starlette application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dsfn.functions.errors import DsfnError, NotFound, RequestError
from dsfn.runtime.gateway import bill, deployments, events, functions_admin, invocations, status
from dsfn.runtime.gateway.functions import FunctionsEndpoint
from dsfn.runtime.gateway.request import BodyReader
from dsfn.runtime.problems import problem_response
from dsfn.runtime.services import Services


def build_app(services: Services) -> Starlette:
    """The application over a node's parts."""
    calls = FunctionsEndpoint(services, BodyReader(services.settings.limits))
    app = Starlette(
        routes=[
            Route("/functions/{name}", calls, methods=["POST"]),
            *events.ROUTES,
            *invocations.ROUTES,
            *functions_admin.ROUTES,
            *deployments.ROUTES,
            *bill.ROUTES,
            *status.ROUTES,
        ],
        exception_handlers={
            DsfnError: _known_error,
            HTTPException: _http_error,
            Exception: _unknown_error,
        },
    )
    app.state.services = services
    return app


async def _known_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DsfnError)
    return problem_response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, as problems."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        path = request.url.path
        return problem_response(NotFound(f"There is nothing at {path}.", kind="path", name=path))
    response = problem_response(RequestError(f"{error.detail}."))
    response.status_code = error.status_code
    response.headers.update(error.headers or {})
    return response


async def _unknown_error(request: Request, error: Exception) -> Response:
    """A fault of our own: the client gets a sentence, the server's log the traceback."""
    return problem_response(DsfnError("The node failed on this request; its log says why."))
