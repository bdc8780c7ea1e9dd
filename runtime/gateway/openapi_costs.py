"""What functions cost, in a node's OpenAPI description."""

from __future__ import annotations

from dsfn.runtime.gateway.openapi_base import Document, component, query
from dsfn.runtime.gateway.openapi_shapes import (
    MAYBE_NUMBER,
    MONTH,
    NUMBER,
    TEXT,
    TIME,
    a_list,
    an_object,
    answers,
    operation,
)

_EFFECT: Document = {
    "cold_calls": NUMBER,
    "p50_us": MAYBE_NUMBER,
    "p99_us": MAYBE_NUMBER,
}


COST_SCHEMAS: Document = {
    "Effect": an_object(_EFFECT),
    "FunctionCost": an_object(
        {
            "function": TEXT,
            "calls": NUMBER,
            "cost_nano": NUMBER,
            "requests_nano": NUMBER,
            "restore_nano": NUMBER,
            "idle_nano": NUMBER,
            **_EFFECT,
            "parking": a_list(an_object({"park_after_us": NUMBER, "cost_nano": NUMBER, **_EFFECT})),
            "keep_warm": an_object({"cost_nano": NUMBER, "spared_calls": NUMBER}),
        }
    ),
    "Advice": an_object(
        {
            "function": TEXT,
            "kind": {"enum": ["park-after", "keep-warm", "batch", "precision"]},
            "change": {"type": "string", "description": "For the function's decorator."},
            "cost_nano": NUMBER,
            "changed_nano": NUMBER,
            "saving_nano": NUMBER,
            "saving_basis_points": NUMBER,
            "before": component("schemas", "Effect"),
            "after": component("schemas", "Effect"),
            "calls": NUMBER,
            "confidence": {"enum": ["low", "medium", "high"]},
            "assumption": TEXT,
        }
    ),
}
_REPORT: Document = an_object(
    {
        "start": TIME,
        "end": TIME,
        "currency": TEXT,
        "cost_nano": NUMBER,
        "saving_nano": NUMBER,
        "functions": a_list(component("schemas", "FunctionCost")),
        "advice": a_list(component("schemas", "Advice")),
    }
)
COST_PATHS: Document = {
    "/cost/advice": {
        "get": operation(
            "advise",
            "costs",
            "What other options of the functions would have saved",
            parameters=[
                query("month", MONTH),
                query("for", {"type": "string", "default": "last month"}),
                query("function", TEXT),
            ],
            responses=answers("What functions cost; what saves most is first.", _REPORT),
        )
    }
}
