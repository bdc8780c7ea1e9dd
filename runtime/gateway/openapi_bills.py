"""Bills, invoices and rates in a node's OpenAPI description."""

from __future__ import annotations

from typing import get_args

from dsfn.billing.lines import Kind
from dsfn.billing.rates.rate import BASES, TIERINGS
from dsfn.billing.selection import BYS
from dsfn.billing.usage import STATUSES
from dsfn.functions.interface import JSON_CONTENT_TYPE
from dsfn.runtime.gateway.openapi_base import (
    IDEMPOTENCY_KEY,
    Document,
    component,
    content,
    path_parameter,
    query,
)
from dsfn.runtime.gateway.openapi_shapes import (
    DIGEST,
    MAYBE_NUMBER,
    MAYBE_TEXT,
    MAYBE_TIME,
    MONTH,
    NUMBER,
    TEXT,
    TIME,
    a_list,
    an_object,
    answers,
    json_body,
    numbers,
    operation,
)

_LINE: Document = {
    "kind": {"enum": list(get_args(Kind))},
    "tenant": TEXT,
    "function": MAYBE_TEXT,
    "device_class": MAYBE_TEXT,
    **numbers("card", "requests", "quantity_us", "busy_us", "held_us", "restore_us"),
    **numbers("amount_nano", "amount_minor"),
    "note": TEXT,
    "service_month": MAYBE_TEXT,
}
# Of a line only where the bill is by them.
_PARTS = {by: MAYBE_TEXT for by in BYS if by != "function"}
_DEVICE: Document = {
    "device_class": TEXT,
    **numbers("held_us", "requests_us", "restore_us", "idle_us"),
}
_MONEY: Document = {"currency": TEXT, **numbers("exponent", "total_minor")}
_STATEMENT: Document = {
    "month": {**MAYBE_TEXT, "description": "null where the time is no month."},
    "start": TIME,
    "end": TIME,
    "by": {"enum": list(BYS)},
    "tenant": MAYBE_TEXT,
    "status": {"enum": ["open", "closed"]},
    **_MONEY,
    "expected_minor": MAYBE_NUMBER,
    "lines": a_list(component("schemas", "BillLine")),
    "devices": a_list(an_object(_DEVICE)),
}
_ISSUED: Document = {
    "number": TEXT,
    "kind": {"enum": ["invoice", "credit"]},
    "month": MONTH,
    "tenant": TEXT,
    "issued_at": TIME,
    **_MONEY,
    "reverses": MAYBE_TEXT,
    "sha256": DIGEST,
}
_CLOSED: Document = {
    "month": MONTH,
    "status": {"const": "closed"},
    "closed_at": TIME,
    **_MONEY,
    "sha256": DIGEST,
    "invoices": a_list(component("schemas", "Issued")),
}
_PARTY = an_object({"name": TEXT, "address": a_list(TEXT), "tax_id": TEXT, "email": TEXT})
_DAY: Document = {
    "day": {"type": "string", "format": "date"},
    "function": TEXT,
    **numbers("quantity_us", "amount_minor", "amount_nano"),
}
_INVOICE: Document = {
    "version": {"const": 1},
    "number": TEXT,
    "kind": {"enum": ["invoice", "credit"]},
    "status": {"const": "closed"},
    "month": MONTH,
    "period": an_object({"start": TEXT, "end": TEXT}),
    "tenant": TEXT,
    "issued_on": TEXT,
    "due_on": TEXT,
    "issuer": _PARTY,
    "customer": _PARTY,
    **_MONEY,
    **numbers("net_minor", "tax_minor"),
    "lines": a_list(component("schemas", "BillLine")),
    "days": a_list(an_object(_DAY)),
    "reverses": TEXT,
    "reason": TEXT,
    "terms": TEXT,
}
_CHECK: Document = {
    "number": TEXT,
    "ok": {"type": "boolean"},
    "sha256": DIGEST,
    "public_key": DIGEST,
    "problems": a_list(TEXT),
}
_STATUS: Document = {"enum": list(STATUSES)}
_CORRECTION: Document = {
    "reason": TEXT,
    "status": _STATUS,
    "busy_us": {"type": "integer", "minimum": 0},
    "restore_us": {"type": "integer", "minimum": 0},
}
_CORRECTED: Document = {
    "corrects": TEXT,
    "invocation_id": TEXT,
    **dict.fromkeys(("tenant", "caller", "function", "revision", "device_class"), TEXT),
    **numbers("started_at_us", "busy_us", "held_us", "restore_us", "devices"),
    "status": _STATUS,
    **dict.fromkeys(("error", "idempotency_key", "device", "lease", "key_id"), TEXT),
    **dict.fromkeys(("workflow", "run", "step"), TEXT),
}
_RATE: Document = {
    "pico_per_second": NUMBER,
    "basis": {"enum": list(BASES)},
    **numbers("pico_per_request", "increment_us", "free_us", "free_requests"),
    "tiers": a_list(an_object(numbers("from_us", "pico_per_second"))),
    "tiering": {"enum": list(TIERINGS)},
}
_POINTS: Document = {"type": "object", "additionalProperties": NUMBER}


def _card(rate: Document) -> Document:
    """What a rate card says, its rates as `rate`."""
    return {
        "currency": TEXT,
        "exponent": NUMBER,
        "effective_from": TIME,
        "billed": a_list(_STATUS),
        "devices": {"type": "object", "additionalProperties": rate},
        "default": rate,
        "discounts": _POINTS,
        "tax": NUMBER,
        "taxes": _POINTS,
        "tax_name": TEXT,
        "minimum_minor": NUMBER,
    }


_KEPT: Document = {
    "number": NUMBER,
    "effective_from": TIME,
    "effective_until": MAYBE_TIME,
    "in_force": {"type": "boolean"},
    "set_at": TIME,
    "source": {"enum": ["configuration", "set"]},
    "currency": TEXT,
    "sha256": DIGEST,
}

BILL_SCHEMAS: Document = {
    "BillLine": an_object({**_LINE, **_PARTS}, list(_LINE)),
    "Statement": an_object(_STATEMENT),
    "Issued": an_object(_ISSUED),
    "ClosedMonth": an_object(_CLOSED),
    "Invoice": an_object(_INVOICE),
    "InvoiceCheck": an_object(_CHECK),
    "CorrectedUsage": an_object(_CORRECTED),
    "RateCard": an_object({**_KEPT, "card": an_object(_card(an_object(_RATE)))}),
}


def _found(description: str, name: str, status: str = "200") -> Document:
    return answers(description, component("schemas", name), status)


def _printed(description: str, name: str, *content_types: str) -> Document:
    """The responses of what can be had on paper, too."""
    forms = {each: {"schema": TEXT} for each in content_types}
    schema = component("schemas", name)
    return answers(description, schema, content={**content(JSON_CONTENT_TYPE, schema), **forms})


_FORMAT = ["json", "html", "pdf"]
_PAPER = ("text/html", "application/pdf")
_TENANT = query("tenant", TEXT)

BILL_PATHS: Document = {
    "/bill": {
        "get": operation(
            "bill",
            "bills",
            "What was used and what it costs, of this month or another time",
            parameters=[
                query("month", MONTH),
                query("for", {"type": "string", "examples": ["last month", "last 7 days"]}),
                query("start", TEXT),
                query("end", TEXT),
                query("by", {"enum": list(BYS), "default": "function"}),
                _TENANT,
                query("format", {"enum": [*_FORMAT, "csv", "focus"]}),
            ],
            responses=_printed("The statement.", "Statement", "text/csv", *_PAPER),
        )
    },
    "/months/{month}/close": {
        "parameters": [path_parameter("month", "A month that is over.")],
        "post": operation(
            "close_month",
            "bills",
            "Close a month and issue its invoices",
            responses=_found("Closed, now or before.", "ClosedMonth"),
        ),
    },
    "/invoices": {
        "get": operation(
            "list_invoices",
            "bills",
            "Invoices and credit notes",
            parameters=[query("month", MONTH), _TENANT],
            responses=answers(
                "All.", an_object({"invoices": a_list(component("schemas", "Issued"))})
            ),
        )
    },
    "/invoices/{number}": {
        "parameters": [path_parameter("number", "The number of the document.")],
        "get": operation(
            "get_invoice",
            "bills",
            "An invoice or a credit note: the bytes that were signed, or on paper",
            parameters=[query("format", {"enum": _FORMAT})],
            responses=_printed("The document.", "Invoice", *_PAPER),
        ),
    },
    "/invoices/{number}/verify": {
        "parameters": [path_parameter("number", "The number of the document.")],
        "get": operation(
            "verify_invoice",
            "bills",
            "Whether a document is what was issued and follows from the journal",
            responses=_found("What was found.", "InvoiceCheck"),
        ),
    },
    "/invoices/{number}/credits": {
        "parameters": [path_parameter("number", "The number of the invoice.")],
        "post": operation(
            "credit_invoice",
            "bills",
            "Issue a credit note on an invoice",
            parameters=[IDEMPOTENCY_KEY],
            requestBody=json_body(an_object({"amount": TEXT, "reason": TEXT})),
            responses=_found("The credit note.", "Invoice", "201"),
        ),
    },
    "/usage/{id}/correction": {
        "parameters": [path_parameter("id", "The id of the call.")],
        "post": operation(
            "correct_usage",
            "bills",
            "Correct what was metered of a call",
            requestBody=json_body(an_object(_CORRECTION, ["reason"])),
            responses=_found("The row that stands in for the call's.", "CorrectedUsage", "201"),
        ),
    },
    "/rates": {
        "get": operation(
            "list_rates",
            "rates",
            "The rate cards, in the order in which they were set",
            responses=answers("All.", an_object({"rates": a_list(an_object(_KEPT))})),
        ),
        "post": operation(
            "set_rates",
            "rates",
            "Set a rate card",
            requestBody=json_body(an_object(_card(an_object(_RATE, ["pico_per_second"])), [])),
            responses=_found("The card.", "RateCard", "201"),
        ),
    },
    "/rates/{n}": {
        "parameters": [path_parameter("n", "The number of the card.")],
        "get": operation(
            "get_rates", "rates", "A rate card", responses=_found("The card.", "RateCard")
        ),
    },
}
