"""GET /bill: what was used and what it costs, as JSON or CSV."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.billing.csv import to_csv
from dsfn.billing.periods import Month
from dsfn.billing.ranges import Range, between, named
from dsfn.billing.statement import Statement, range_statement
from dsfn.functions.errors import DsfnError, UsageError
from dsfn.runtime.gateway.access import identity_of, tenant_asked_for
from dsfn.runtime.problems import problem_response
from dsfn.runtime.services import Services


async def bill(request: Request) -> Response:
    """The statement of `?month=YYYY-MM`, of `?for=last+month`, or from `?start=` to `?end=`, by
    `?by=`; of this month by function without them. `?tenant=` is for one tenant alone."""
    services: Services = request.app.state.services
    query = {**request.query_params, "tenant": tenant_asked_for(request) or ""}
    try:
        services.invoker.meter.flush()
        found = await asyncio.to_thread(_statement, services, query)
    except DsfnError as error:
        return problem_response(error)
    if not identity_of(request).is_admin:
        # What devices were held for, whoever paid, is not a tenant's to see.
        found = replace(found, devices=())
    if "text/csv" in request.headers.get("accept", ""):
        return Response(to_csv(found), media_type="text/csv")
    return JSONResponse(found.to_document())


def _statement(services: Services, query: dict[str, str]) -> Statement:
    now_us, tenant = services.clock.now_us(), query["tenant"]
    by = query.get("by", "function")
    stretch = _stretch(query, now_us)
    if stretch.month is not None:
        return services.months.report(stretch.month.text, by, tenant, now_us)
    return range_statement(services.ledger, services.rates.book, stretch, by, tenant)


def _stretch(query: dict[str, str], now_us: int) -> Range:
    """The stretch of time that is asked for. Raises `UsageError`."""
    match sorted({"month", "for", "start", "end"} & set(query)):
        case []:
            return named("this month", now_us)
        case ["month"]:
            month = Month.parse(query["month"])
            return Range(month.start_us, month.end_us)
        case ["for"]:
            return named(query["for"], now_us)
        case ["end", "start"]:
            return between(query["start"], query["end"])
        case _:
            raise UsageError("A bill is of a month, for a time, or from a start to an end.")


ROUTES = [Route("/bill", bill, methods=["GET"])]
