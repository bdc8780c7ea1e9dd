"""GET /bill: the month's statement, as JSON or CSV."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.billing.csv import to_csv
from dsfn.billing.periods import Month
from dsfn.billing.statement import statement
from dsfn.functions.errors import DsfnError
from dsfn.runtime.problems import problem_response
from dsfn.runtime.services import Services


async def bill(request: Request) -> Response:
    """The statement of `?month=YYYY-MM` (default: the current one) by `?by=`."""
    services: Services = request.app.state.services
    current = Month.containing(services.clock.now_us())
    month = request.query_params.get("month", current.text)
    by = request.query_params.get("by", "function")
    try:
        book = services.rates.book
        found = await asyncio.to_thread(statement, services.ledger, book, month, by)
    except DsfnError as error:
        return problem_response(error)
    if "text/csv" in request.headers.get("accept", ""):
        return Response(to_csv(found), media_type="text/csv")
    return JSONResponse(found.to_document())


ROUTES = [Route("/bill", bill, methods=["GET"])]
