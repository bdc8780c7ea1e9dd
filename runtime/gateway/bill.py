"""GET /bill: what was used and what it costs, in every format."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.billing.csv import to_csv
from dsfn.billing.periods import Month
from dsfn.billing.ranges import Range, between, named
from dsfn.functions.errors import DsfnError, UsageError
from dsfn.functions.values import dataclass
from dsfn.runtime.gateway.access import identity_of, tenant_asked_for
from dsfn.runtime.gateway.formats import CSV, FOCUS, HTML, JSON, PDF, format_of, printed
from dsfn.runtime.printing import Printer
from dsfn.runtime.problems import problem_response
from dsfn.runtime.services import Services

FORMATS = (JSON, CSV, FOCUS, HTML, PDF)
_STRETCHES = frozenset({"month", "for", "start", "end"})


async def bill(request: Request) -> Response:
    """The statement of `?month=YYYY-MM`, of `?for=last+month`, or from `?start=` to `?end=`, by
    `?by=`; of this month by function without them. `?tenant=` is for one tenant alone."""
    services: Services = request.app.state.services
    tenant = tenant_asked_for(request) or ""
    try:
        wanted = _Wanted(
            stretch=_stretch(dict(request.query_params), services.clock.now_us()),
            by=request.query_params.get("by", "function"),
            tenant=tenant,
            shows_devices=identity_of(request).only_tenant is None,
        )
        format = format_of(request, FORMATS)
        await services.meter.flush()
        return await asyncio.to_thread(_bill, services, wanted, format)
    except DsfnError as error:
        return problem_response(error)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which bill. What devices were held for is no single tenant's to see."""

    stretch: Range
    by: str
    tenant: str
    shows_devices: bool


def _bill(services: Services, wanted: _Wanted, format: str) -> Response:
    printer = Printer(services.months)
    which = (wanted.stretch, wanted.by, wanted.tenant, services.clock.now_us())
    match format:
        case "html" | "pdf":
            return printed(printer.bill(*which, format), format, "bill")
        case "focus":
            return Response(printer.focus(*which), media_type="text/csv")
        case "csv":
            return Response(to_csv(printer.statement(*which)), media_type="text/csv")
    found = printer.statement(*which)
    return JSONResponse(
        (found if wanted.shows_devices else replace(found, devices=())).to_document()
    )


def _stretch(query: dict[str, str], now_us: int) -> Range:
    """The stretch of time that is asked for. Raises `UsageError`."""
    match sorted(_STRETCHES & set(query)):
        case []:
            return named("this month", now_us)
        case ["month"]:
            return Range.of(Month.parse(query["month"]))
        case ["for"]:
            return named(query["for"], now_us)
        case ["end", "start"]:
            return between(query["start"], query["end"])
        case _:
            raise UsageError("A bill is of a month, for a time, or from a start to an end.")


ROUTES = [Route("/bill", bill, methods=["GET"])]
