"""GET /cost/advice: what other options would have saved."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.billing.periods import Month
from dsfn.billing.ranges import Range, named
from dsfn.functions.errors import DsfnError, UsageError
from dsfn.runtime.problems import problem_response
from dsfn.runtime.services import Services

DEFAULT_TIME = "last month"


async def advice(request: Request) -> Response:
    """Advice by `?month=YYYY-MM` or `?for=last+7+days`, last month without them; `?function=` is
    for one alone. Of a time that is not over, by what there is of it."""
    services: Services = request.app.state.services
    query, now_us = request.query_params, services.clock.now_us()
    try:
        stretch = _stretch(query.get("month"), query.get("for"), now_us)
    except DsfnError as error:
        return problem_response(error)
    await services.meter.flush()
    end_us = max(stretch.start_us, min(stretch.end_us, now_us))
    found = await services.adviser.advise(stretch.start_us, end_us, query.get("function"))
    return JSONResponse(found.to_document())


def _stretch(month: str | None, words: str | None, now_us: int) -> Range:
    """The stretch of time that is asked for. Raises `UsageError`."""
    if month is None:
        return named(DEFAULT_TIME if words is None else words, now_us)
    if words is not None:
        raise UsageError("Advice is by a month or for a time, not both.")
    return Range.of(Month.parse(month))


ROUTES = [Route("/cost/advice", advice, methods=["GET"])]
