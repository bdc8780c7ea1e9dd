"""POST and GET /usage: rows that were measured elsewhere, in the pods of a cluster.

A row that is sent again is the same row: the ledger's keys see to that.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.billing.posting_document import Measured, posting_document, read_posting
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, MalformedBody, NotFound
from dsfn.functions.invalid import invalid
from dsfn.runtime.gateway.request import headers_of
from dsfn.runtime.problems import problem_document
from dsfn.runtime.services import Services

MAX_ROWS = 1000
Document = dict[str, Any]


async def post(request: Request) -> Response:
    """POST /usage: 200 once every row is in the ledger, but for those that it refuses, which are
    named. All rows are looked at before the first one is posted."""
    services: Services = request.app.state.services
    body = await services.bodies.read(headers_of(request.scope), request.receive)
    try:
        rows = _rows(body)
    finally:
        services.bodies.release(body)
    return JSONResponse({"refused": await _post(services, rows)})


async def show(request: Request) -> Response:
    """GET /usage/{id}: the row of one call."""
    services: Services = request.app.state.services
    invocation_id = request.path_params["id"]
    row = await asyncio.to_thread(services.ledger.usage, invocation_id)
    if row is None:
        raise NotFound(
            f"The ledger has no call {invocation_id!r}.", kind="call", name=invocation_id
        )
    return JSONResponse(posting_document(row))


async def _post(services: Services, rows: Sequence[Measured]) -> list[Document]:
    """Posts all that make sense at once; where one of them is refused, each for itself. Raises why
    rows could not be written."""
    wrong = {number: found for number, row in enumerate(rows) if (found := _contradiction(row))}
    sound = [number for number in range(len(rows)) if number not in wrong]
    errors = await _posted(services, [rows[number] for number in sound])
    refused: dict[int, Conflict] = dict(wrong)
    for number, error in zip(sound, errors, strict=True):
        if isinstance(error, Conflict):
            refused[number] = error
        elif error is not None:
            raise error
    return [
        {"row": number, "problem": problem_document(refused[number])} for number in sorted(refused)
    ]


def _contradiction(row: Measured) -> Conflict | None:
    """What keeps a row from being true, though each of its values may be."""
    if isinstance(row, Usage) and row.busy_us > row.held_us:
        return Conflict(
            f"The row of {row.invocation_id} has busy_us {row.busy_us}, more than the held_us"
            f" {row.held_us} that it is part of.",
            invocation_id=row.invocation_id,
        )
    return None


async def _posted(services: Services, rows: Sequence[Measured]) -> Sequence[Exception | None]:
    """What came of each row."""
    posted: asyncio.Future[Sequence[Exception | None]] = asyncio.get_running_loop().create_future()

    def done(errors: Sequence[Exception | None]) -> None:
        if not posted.done():
            posted.set_result(errors)

    services.meter.post_kept(rows, done)
    return await posted


def _rows(body: bytes) -> list[Measured]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedBody("The body is not valid JSON.") from None
    found = document.get("rows") if isinstance(document, dict) else None
    if not isinstance(found, list) or not 0 < len(found) <= MAX_ROWS:
        raise invalid("rows", f"must be a list of 1 to {MAX_ROWS} rows")
    rows = []
    for number, each in enumerate(found):
        try:
            rows.append(read_posting(each))
        except ValueError as error:
            raise invalid(f"rows.{number}", f"is no row: {error}") from None
    return rows


ROUTES = [
    Route("/usage", post, methods=["POST"]),
    Route("/usage/{id}", show, methods=["GET"]),
]
