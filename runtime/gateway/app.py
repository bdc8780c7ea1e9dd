"""The gateway: every route of a node in one ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dsfn.functions.errors import DsfnError, NotFound, RequestError
from dsfn.functions.values import dataclass
from dsfn.runtime.gateway import (
    auto,
    bill,
    budgets,
    cost_advice,
    deadletters,
    deployments,
    events,
    functions_admin,
    invocations,
    invoices,
    keys,
    letterbox,
    plans,
    rates,
    runs,
    snapshots,
    status,
    usage,
    workflows,
)
from dsfn.runtime.gateway.access import guarded
from dsfn.runtime.gateway.functions import FunctionsEndpoint
from dsfn.runtime.gateway.request import ClientGone
from dsfn.runtime.problems import problem_response
from dsfn.runtime.services import Services

FUNCTIONS_PATH = "/functions/"


@dataclass(frozen=True, slots=True)
class Gateway:
    """The ASGI application of a node.

    Calls of functions go straight to their endpoint: routing and middleware would
    cost them more than the gateway's own work. Everything else is Starlette's.
    """

    calls: FunctionsEndpoint
    rest: Starlette

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            path: str = scope["path"]
            name = path.removeprefix(FUNCTIONS_PATH)
            if name != path and "/" not in name:
                await self.calls.serve(name, scope, receive, send)
                return
        await self.rest(scope, receive, send)


# All routes but that of calls, which is served without them.
ROUTES = [
    *events.ROUTES,
    *invocations.ROUTES,
    *functions_admin.ROUTES,
    *workflows.ROUTES,
    *runs.ROUTES,
    *deadletters.ROUTES,
    *letterbox.ROUTES,
    *deployments.ROUTES,
    *snapshots.ROUTES,
    *bill.ROUTES,
    *cost_advice.ROUTES,
    *invoices.ROUTES,
    *rates.ROUTES,
    *budgets.ROUTES,
    *keys.ROUTES,
    *plans.ROUTES,
    *auto.ROUTES,
    *usage.ROUTES,
    *status.ROUTES,
]


def build_app(services: Services) -> Gateway:
    """The application over a node's parts."""
    app = Starlette(
        routes=guarded(ROUTES),
        exception_handlers={
            DsfnError: _known_error,
            ClientGone: _nobody,
            HTTPException: _http_error,
            Exception: _unknown_error,
        },
    )
    app.router.redirect_slashes = False
    app.state.services = services
    return Gateway(FunctionsEndpoint(services), app)


async def _known_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DsfnError)
    return problem_response(error)


async def _nobody(request: Request, error: Exception) -> Response:
    """There is no client any more to read this."""
    return Response(status_code=499)


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, as problems."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        path = request.url.path
        return problem_response(NotFound(f"There is nothing at {path}.", kind="path", name=path))
    response = problem_response(RequestError(f"{error.detail}."), status=error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _unknown_error(request: Request, error: Exception) -> Response:
    """A fault of our own: the client gets a sentence, the server's log the traceback."""
    return problem_response(DsfnError("The node failed on this request; its log says why."))
