"""API keys and budgets in a node's OpenAPI description."""

from __future__ import annotations

from dsfn.runtime.access import Scope
from dsfn.runtime.access.keys import MAX_FUNCTIONS, MAX_NAME_CHARS, MAX_TENANT_CHARS
from dsfn.runtime.budgets.budget import MAX_ALERTS, MAX_AMOUNT_NANO, MAX_PERCENT, PERIODS
from dsfn.runtime.gateway.openapi_base import (
    ERRORS,
    Document,
    component,
    path_parameter,
    query,
)
from dsfn.runtime.gateway.openapi_shapes import (
    MAYBE_TIME,
    TIME,
    a_list,
    an_object,
    answers,
    json_body,
    operation,
)

SECURITY_SCHEME = "ApiKey"
SECURITY_SCHEMES: Document = {
    SECURITY_SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, `dsfn_<id>_<secret>`.",
    }
}

_NANO: Document = {"type": "integer", "minimum": 0, "maximum": MAX_AMOUNT_NANO}
_TENANT: Document = {"type": "string", "minLength": 1, "maxLength": MAX_TENANT_CHARS}
_NAME: Document = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS}
_SCOPES: Document = {"type": "array", "items": {"enum": list(Scope)}, "minItems": 1}
_FUNCTIONS: Document = {
    "type": "array",
    "items": {"type": "string"},
    "maxItems": MAX_FUNCTIONS,
    "description": "What it may call, everything when there are none.",
}
_PERIOD: Document = {"enum": list(PERIODS)}
_ALERTS: Document = {
    "type": "array",
    "items": {"type": "integer", "minimum": 1, "maximum": MAX_PERCENT},
    "maxItems": MAX_ALERTS,
}


_KEY: Document = {
    "id": {"type": "string"},
    "name": _NAME,
    "tenant": _TENANT,
    "scopes": _SCOPES,
    "functions": _FUNCTIONS,
    "state": {"enum": ["active", "expired", "revoked"]},
    "created_at": TIME,
    "expires_at": MAYBE_TIME,
    "revoked_at": MAYBE_TIME,
    "last_used": {"type": ["string", "null"], "format": "date"},
}
_BUDGET: Document = {
    "id": {"type": "string"},
    "tenant": _TENANT,
    "key_id": {"type": ["string", "null"]},
    "function": {"type": ["string", "null"]},
    "period": _PERIOD,
    "current_period": {"type": "string", "description": 'The month, or "total".'},
    "currency": {"type": "string"},
    "amount_nano": _NANO,
    "spent_nano": {"type": "integer"},
    "reserved_nano": {"type": "integer"},
    "left_nano": {"type": "integer"},
    "hard": {"type": "boolean"},
    "alerts": _ALERTS,
    "alerted": _ALERTS,
    "resets_at": MAYBE_TIME,
    "set_at": TIME,
}
_NEW_KEY: Document = {
    **{name: _KEY[name] for name in ("name", "tenant", "scopes", "functions")},
    "expires_at": MAYBE_TIME,
}
_NEW_BUDGET: Document = {
    "amount_nano": _NANO,
    "tenant": _TENANT,
    "key_id": {"type": "string"},
    "function": {"type": "string"},
    "period": _PERIOD,
    "hard": {"type": "boolean"},
    "alerts": _ALERTS,
}

ACCESS_SCHEMAS: Document = {
    "ApiKey": an_object(_KEY),
    "NewApiKey": an_object({**_KEY, "key": {"type": "string", "description": "Told once."}}),
    "Budget": an_object(_BUDGET),
}


def _list(name: str, schema: str) -> Document:
    return an_object({name: a_list(component("schemas", schema))})


_ONE_KEY, _ONE_BUDGET = component("schemas", "ApiKey"), component("schemas", "Budget")

ACCESS_PATHS: Document = {
    "/keys": {
        "get": operation(
            "list_keys", "keys", "API keys", responses=answers("All.", _list("keys", "ApiKey"))
        ),
        "post": operation(
            "create_key",
            "keys",
            "Make an API key",
            requestBody=json_body(an_object(_NEW_KEY, ["name", "scopes"])),
            responses=answers("The key.", component("schemas", "NewApiKey"), "201"),
        ),
    },
    "/keys/{id}": {
        "parameters": [path_parameter("id", "The id of the key.")],
        "get": operation("get_key", "keys", "An API key", responses=answers("The key.", _ONE_KEY)),
        "delete": operation(
            "revoke_key", "keys", "Revoke an API key", responses=answers("Revoked.", _ONE_KEY)
        ),
    },
    "/budgets": {
        "get": operation(
            "list_budgets",
            "budgets",
            "Budgets, and what is spent of them",
            parameters=[query("tenant", _TENANT)],
            responses=answers("All.", _list("budgets", "Budget")),
        ),
        "post": operation(
            "set_budget",
            "budgets",
            "Set a budget",
            requestBody=json_body(an_object(_NEW_BUDGET, ["amount_nano"])),
            responses=answers("The budget.", _ONE_BUDGET, "201"),
        ),
    },
    "/budgets/{id}": {
        "parameters": [path_parameter("id", "The id of the budget.")],
        "get": operation(
            "get_budget", "budgets", "A budget", responses=answers("The budget.", _ONE_BUDGET)
        ),
        "delete": operation(
            "remove_budget",
            "budgets",
            "Remove a budget",
            responses={"204": {"description": "Removed."}, **ERRORS},
        ),
    },
}
