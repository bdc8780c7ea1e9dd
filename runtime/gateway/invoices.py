"""Closed months, invoices, credit notes and corrections."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, fields
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.billing.credit import amount_of
from dsfn.billing.issued import ClosedMonth, Issued
from dsfn.billing.months import invoice_in
from dsfn.billing.periods import Month, moment_text
from dsfn.billing.replacement import Correction
from dsfn.billing.statement import Statement
from dsfn.functions.errors import InvalidInput, NotFound, UsageError
from dsfn.runtime.gateway.access import identity_of, tenant_asked_for
from dsfn.runtime.gateway.formats import HTML, JSON, PDF, format_of, printed
from dsfn.runtime.gateway.request import read_object
from dsfn.runtime.printing import Printer
from dsfn.runtime.services import Services

Document = dict[str, Any]
_CREDIT_KEYS = ("amount", "reason")
MAX_KEY_LENGTH = 255


async def close_month(request: Request) -> Response:
    """POST /months/{month}/close: 200 with its invoices, whether it is closed now or was before."""
    services: Services = request.app.state.services
    closed, issued = await services.closer.close(request.path_params["month"])
    return JSONResponse(_closed(closed, issued))


async def list_invoices(request: Request) -> Response:
    """GET /invoices: invoices and credit notes, of `?month=` and `?tenant=` alone with these."""
    services: Services = request.app.state.services
    month, tenant = request.query_params.get("month", ""), tenant_asked_for(request) or ""
    if month:
        Month.parse(month)
    found = await asyncio.to_thread(services.ledger.documents.all, month, tenant)
    return JSONResponse({"invoices": [_summary(each) for each in found]})


async def show_invoice(request: Request) -> Response:
    """GET /invoices/{number}: the bytes that were signed, or the document on paper."""
    services: Services = request.app.state.services
    issued, format = await _own(request), format_of(request, (JSON, HTML, PDF))
    match format:
        case "html" | "pdf":
            printer = Printer(services.months)
            content = await asyncio.to_thread(printer.document, issued.number, format)
            return printed(content, format, issued.number)
        case _:
            return _document(issued)


async def verify_invoice(request: Request) -> Response:
    """GET /invoices/{number}/verify: whether it is what was issued and follows from the journal."""
    services: Services = request.app.state.services
    issued = await _own(request)
    check = await asyncio.to_thread(services.months.verify, issued.number)
    return JSONResponse(check.to_document())


async def credit_invoice(request: Request) -> Response:
    """POST /invoices/{number}/credits: 201 with the credit note; the same `Idempotency-Key` again
    gives the same one."""
    services: Services = request.app.state.services
    given = await read_object(request, services.settings.limits)
    key = request.headers.get("idempotency-key", "")
    if len(key) > MAX_KEY_LENGTH:
        raise _invalid("Idempotency-Key", f"must have at most {MAX_KEY_LENGTH} characters")
    for name in given:
        if name not in _CREDIT_KEYS:
            raise _invalid(name, "is not known; there are amount and reason")
    for name in _CREDIT_KEYS:
        if not isinstance(given.get(name), str):
            raise _invalid(name, "must be a text")
    number, exponent = request.path_params["number"], services.rates.book.exponent
    try:
        amount_minor = amount_of(given["amount"], exponent)
        now_us = services.clock.now_us()
        wanted = (number, amount_minor, given["reason"], key, now_us)
        issued = await services.writer.run(partial(services.months.credit, *wanted))
    except UsageError as error:
        raise InvalidInput(error.message) from error
    response = _document(issued, 201)
    response.headers["Location"] = f"/invoices/{issued.number}"
    return response


async def correct_usage(request: Request) -> Response:
    """POST /usage/{id}/correction: 201 with the row that stands in for the call's own."""
    services: Services = request.app.state.services
    given = await read_object(request, services.settings.limits)
    known = {each.name for each in fields(Correction)}
    for name, value in given.items():
        if name not in known:
            raise _invalid(name, f"is not known; there are {', '.join(sorted(known))}")
        if type(value) is not (int if name.endswith("_us") else str):
            raise _invalid(name, "has a value of the wrong type")
    if "reason" not in given:
        raise _invalid("reason", "must be there")
    invocation_id = request.path_params["id"]
    try:
        wanted = partial(services.months.correct, invocation_id, Correction(**given))
        usage = await services.writer.run(wanted)
    except UsageError as error:
        raise InvalidInput(error.message) from error
    await services.budgets.recount(usage.tenant)
    return JSONResponse({"corrects": invocation_id, **asdict(usage)}, status_code=201)


async def _own(request: Request) -> Issued:
    """A document that whoever asks may see. Raises `NotFound` for all others."""
    services: Services = request.app.state.services
    number: str = request.path_params["number"]
    issued = await asyncio.to_thread(services.months.issued, number)
    if not identity_of(request).sees(issued.tenant):
        raise NotFound(f"There is no document {number}.")
    return issued


def _invalid(field: str, fault: str) -> InvalidInput:
    sentence = f"{field} {fault}."
    return InvalidInput(sentence, field=field, errors=[{"field": field, "message": sentence}])


def _document(issued: Issued, status: int = 200) -> Response:
    """The very bytes, with their digest and signature beside them."""
    return Response(
        issued.document.encode(),
        status_code=status,
        media_type="application/json",
        headers={
            "ETag": f'"{issued.sha256}"',
            "Dsfn-Public-Key": issued.public_key,
            "Dsfn-Signature": issued.signature,
        },
    )


def _closed(closed: ClosedMonth, issued: list[Issued]) -> Document:
    total = Statement.from_text(closed.document)
    return {
        "month": closed.month,
        "status": "closed",
        "closed_at": moment_text(closed.closed_at_us),
        "currency": total.currency,
        "exponent": total.exponent,
        "total_minor": total.total_minor,
        "sha256": closed.sha256,
        "invoices": [_summary(each) for each in issued],
    }


def _summary(issued: Issued) -> Document:
    invoice = invoice_in(issued)
    return {
        "number": issued.number,
        "kind": issued.kind,
        "month": issued.month,
        "tenant": issued.tenant,
        "issued_at": moment_text(issued.issued_at_us),
        "currency": invoice.currency,
        "exponent": invoice.exponent,
        "total_minor": issued.total_minor,
        "reverses": issued.reverses or None,
        "sha256": issued.sha256,
    }


ROUTES = [
    Route("/months/{month}/close", close_month, methods=["POST"]),
    Route("/usage/{id}/correction", correct_usage, methods=["POST"]),
    Route("/invoices", list_invoices, methods=["GET"]),
    Route("/invoices/{number}", show_invoice, methods=["GET"]),
    Route("/invoices/{number}/verify", verify_invoice, methods=["GET"]),
    Route("/invoices/{number}/credits", credit_invoice, methods=["POST"]),
]
