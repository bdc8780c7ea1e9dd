"""GET /bill: the month's statement, as JSON or CSV."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.billing.csv import to_csv
from dsfn.billing.periods import Month
from dsfn.billing.statement import Statement, statement
from dsfn.functions.errors import DsfnError
from dsfn.runtime.gateway.access import tenant_asked_for
from dsfn.runtime.problems import problem_response
from dsfn.runtime.services import Services


async def bill(request: Request) -> Response:
    """The statement of `?month=YYYY-MM` (default: the current one) by `?by=`, of `?tenant=`."""
    services: Services = request.app.state.services
    current = Month.containing(services.clock.now_us())
    month = request.query_params.get("month", current.text)
    by = request.query_params.get("by", "function")
    tenant = tenant_asked_for(request)
    try:
        book = services.rates.book
        found = await asyncio.to_thread(statement, services.ledger, book, month, by)
    except DsfnError as error:
        return problem_response(error)
    if tenant is not None:
        found = _of_tenant(found, tenant)
    if "text/csv" in request.headers.get("accept", ""):
        return Response(to_csv(found), media_type="text/csv")
    return JSONResponse(found.to_document())


def _of_tenant(found: Statement, tenant: str) -> Statement:
    """What a statement says of one tenant. What devices were held for is not a tenant's to see."""
    lines = tuple(line for line in found.lines if line.tenant == tenant)
    total_minor = sum(line.amount_minor for line in lines)
    return replace(found, lines=lines, total_minor=total_minor, devices=())


ROUTES = [Route("/bill", bill, methods=["GET"])]
