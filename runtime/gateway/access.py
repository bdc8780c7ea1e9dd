"""Which API keys may use which route. A route that is not in the table is not served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dsfn.functions.errors import Forbidden, RequestError
from dsfn.functions.invalid import invalid
from dsfn.runtime.access import Identity, Scope
from dsfn.runtime.blobs import REF_PREFIX
from dsfn.runtime.blobs.references import digests_in
from dsfn.runtime.gateway.queries import PARAMETERS, require_known
from dsfn.runtime.services import Services

_MENTION = REF_PREFIX.encode()
_IDENTITY = "dsfn.identity"

INVOKE = frozenset({Scope.INVOKE})
READ = frozenset({Scope.READ})
# What a tenant's own calls came to.
OUTCOME = frozenset({Scope.INVOKE, Scope.READ})
DEPLOY = frozenset({Scope.DEPLOY})
LOOK = frozenset({Scope.READ, Scope.DEPLOY})
BILLING = frozenset({Scope.BILLING})
ADMIN = frozenset({Scope.ADMIN})
PUBLIC = None

SCOPES: Mapping[tuple[str, str], frozenset[Scope] | None] = {
    ("GET", "/health/liveness"): PUBLIC,
    ("GET", "/health/readiness"): PUBLIC,
    ("GET", "/status"): LOOK,
    ("GET", "/metrics"): READ,
    ("GET", "/openapi.json"): OUTCOME,
    ("POST", "/functions/{name}"): INVOKE,
    ("GET", "/functions"): LOOK,
    ("GET", "/functions/{name}"): LOOK,
    ("GET", "/functions/{name}/history"): LOOK,
    ("GET", "/functions/{name}/timeline"): LOOK,
    ("GET", "/functions/{name}/logs"): DEPLOY,
    ("DELETE", "/functions/{name}"): DEPLOY,
    ("POST", "/functions/{name}/rollback"): DEPLOY,
    ("PUT", "/functions/{name}/traffic"): DEPLOY,
    ("POST", "/functions/{name}/park"): DEPLOY,
    ("POST", "/functions/{name}/verify"): DEPLOY,
    ("POST", "/functions/{name}/deadletters/{secret}"): PUBLIC,
    ("POST", "/deployments"): DEPLOY,
    ("POST", "/events"): INVOKE,
    ("POST", "/subscriptions"): DEPLOY,
    ("GET", "/subscriptions"): LOOK,
    ("DELETE", "/subscriptions/{id}"): DEPLOY,
    ("GET", "/invocations/{id}"): OUTCOME,
    ("GET", "/invocations/{id}/result"): OUTCOME,
    ("GET", "/deadletters"): OUTCOME,
    ("GET", "/deadletters/{id}"): OUTCOME,
    ("POST", "/deadletters/{id}/replay"): INVOKE,
    ("POST", "/blobs"): INVOKE,
    ("GET", "/blobs/{digest}"): OUTCOME,
    ("GET", "/workflows"): LOOK,
    ("GET", "/workflows/{name}"): LOOK,
    ("POST", "/workflows/{name}"): INVOKE,
    ("DELETE", "/workflows/{name}"): DEPLOY,
    ("GET", "/workflows/{name}/graph"): LOOK,
    ("GET", "/workflows/{name}/history"): LOOK,
    ("GET", "/runs"): OUTCOME,
    ("GET", "/runs/{id}"): OUTCOME,
    ("GET", "/runs/{id}/output"): OUTCOME,
    ("GET", "/runs/{id}/dag"): OUTCOME,
    ("GET", "/runs/{id}/graph"): OUTCOME,
    ("GET", "/runs/{id}/events"): OUTCOME,
    ("GET", "/runs/{id}/logs"): OUTCOME,
    ("GET", "/runs/{id}/cost"): OUTCOME,
    ("POST", "/runs/{id}/cancel"): INVOKE,
    ("POST", "/runs/{id}/retry"): INVOKE,
    ("POST", "/plans"): READ,
    ("POST", "/auto"): INVOKE,
    ("GET", "/snapshots"): LOOK,
    ("GET", "/snapshots/{name}"): LOOK,
    ("POST", "/snapshots/prefetch"): DEPLOY,
    ("POST", "/snapshots/prune"): DEPLOY,
    ("POST", "/snapshots/{name}/verify"): DEPLOY,
    ("POST", "/snapshots/{name}/push"): DEPLOY,
    ("POST", "/snapshots/{name}/pull"): DEPLOY,
    ("POST", "/snapshots/{name}/pin"): DEPLOY,
    ("POST", "/snapshots/{name}/unpin"): DEPLOY,
    ("GET", "/bill"): BILLING,
    ("GET", "/cost/advice"): ADMIN,
    ("POST", "/months/{month}/close"): ADMIN,
    ("POST", "/usage"): ADMIN,
    ("GET", "/usage/{id}"): ADMIN,
    ("POST", "/usage/{id}/correction"): ADMIN,
    ("GET", "/invoices"): BILLING,
    ("GET", "/invoices/{number}"): BILLING,
    ("GET", "/invoices/{number}/verify"): BILLING,
    ("POST", "/invoices/{number}/credits"): ADMIN,
    ("GET", "/budgets"): BILLING,
    ("GET", "/budgets/{id}"): BILLING,
    ("POST", "/budgets"): ADMIN,
    ("DELETE", "/budgets/{id}"): ADMIN,
    ("GET", "/rates"): BILLING,
    ("GET", "/rates/{n}"): BILLING,
    ("POST", "/rates"): ADMIN,
    ("GET", "/keys"): ADMIN,
    ("POST", "/keys"): ADMIN,
    ("GET", "/keys/{id}"): ADMIN,
    ("DELETE", "/keys/{id}"): ADMIN,
}


def guarded(routes: Sequence[Route]) -> list[Route]:
    """The routes, each served to those only who may use it. Raises `KeyError` for one that the
    table does not know."""
    return [_guarded(route) for route in routes]


def identity_of(request: Request) -> Identity:
    """Who makes a request to a guarded route."""
    identity: Identity = request.scope[_IDENTITY]
    return identity


def as_identity(request: Request, identity: Identity) -> None:
    """Notes who makes a request."""
    request.scope[_IDENTITY] = identity


def require_own_blobs(services: Services, identity: Identity, body: bytes) -> None:
    """Raises `InvalidInput` for a body that names a blob which is not its tenant's."""
    if _MENTION in body and not identity.is_admin:
        services.owners.require(identity.tenant, digests_in(body))


def tenant_asked_for(request: Request) -> str | None:
    """The tenant whose affairs are to be shown, None for all tenants'. An admin may choose with
    `?tenant=`; who asks for another's without being one gets `Forbidden`. Raises `InvalidInput`
    for an empty name."""
    identity, asked = identity_of(request), request.query_params.get("tenant")
    if asked == "":
        raise invalid("tenant", "is the name of one")
    if asked is not None and not identity.sees(asked):
        raise Forbidden("The API key may not do this.")
    return identity.only_tenant if asked is None else asked


def _guarded(route: Route) -> Route:
    (method,) = (route.methods or set()) - {"HEAD"}
    scopes, endpoint = SCOPES[method, route.path], route.endpoint
    parameters = PARAMETERS.get((method, route.path), ())
    if scopes is PUBLIC:
        return route

    async def checked(request: Request) -> Response:
        _require_text(request)
        services: Services = request.app.state.services
        authorization = request.headers.get("authorization")
        given = None if authorization is None else authorization.encode("latin-1")
        identity = services.access.identify(given)
        identity.require(scopes)
        as_identity(request, identity)
        require_known(request, parameters)
        response: Response = await endpoint(request)
        return response

    return Route(route.path, checked, methods=[method])


def _require_text(request: Request) -> None:
    """Raises `RequestError` for a path or query with a NUL: no name has one, and databases differ
    in what they make of it."""
    if "\0" in request.scope["path"] or b"%00" in request.scope["query_string"]:
        raise RequestError("A path or query has no NUL.")
