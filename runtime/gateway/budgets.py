"""The budgets of a node over HTTP: what there is, what is spent of it, and to set it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.billing.periods import moment_text
from dsfn.functions.errors import NotFound
from dsfn.functions.invalid import invalid
from dsfn.runtime.budgets import Account, Budget
from dsfn.runtime.budgets.alerts import resets_at
from dsfn.runtime.budgets.budget import DEFAULT_ALERTS
from dsfn.runtime.gateway.access import identity_of, tenant_asked_for
from dsfn.runtime.gateway.request import read_object
from dsfn.runtime.services import Services

_TEXTS = ("tenant", "key_id", "function", "period")
_MEMBERS = (*_TEXTS, "amount_nano", "hard", "alerts")


async def list_budgets(request: Request) -> Response:
    """GET /budgets?tenant=T: every budget with what is spent of it."""
    services: Services = request.app.state.services
    found = services.budgets.all(tenant_asked_for(request))
    return JSONResponse({"budgets": [_document(services, account) for account in found]})


async def show_budget(request: Request) -> Response:
    """GET /budgets/{id}."""
    services: Services = request.app.state.services
    account = services.budgets.get(request.path_params["id"])
    if not identity_of(request).sees(account.budget.tenant):
        raise NotFound(
            f"There is no budget {account.budget.id!r}.", kind="budget", name=account.budget.id
        )
    return JSONResponse(_document(services, account))


async def set_budget(request: Request) -> Response:
    """POST /budgets {"amount_nano", "tenant", "key_id", "function", "period", "hard", "alerts"}:
    201 with the budget, which takes the place of the one for the same; 404 for a key that the
    tenant does not have."""
    services: Services = request.app.state.services
    asked = await read_object(request, services.settings.limits)
    budget = _budget(services, asked)
    if budget.key_id and services.access.keys.get(budget.key_id).tenant != budget.tenant:
        raise NotFound(
            f"{budget.tenant} has no API key {budget.key_id!r}.", kind="API key", name=budget.key_id
        )
    account = await services.budgets.set(budget)
    headers = {"Location": f"/budgets/{account.budget.id}"}
    return JSONResponse(_document(services, account), status_code=201, headers=headers)


async def remove_budget(request: Request) -> Response:
    """DELETE /budgets/{id}: 204 once nothing is refused for it any more."""
    services: Services = request.app.state.services
    services.budgets.remove(request.path_params["id"])
    return Response(status_code=204)


def _budget(services: Services, asked: dict[str, Any]) -> Budget:
    """Raises `InvalidInput`."""
    for name in asked:
        if name not in _MEMBERS:
            raise invalid(name, "is not part of a budget")
    for name in _TEXTS:
        if not isinstance(asked.get(name, ""), str):
            raise invalid(name, "must be a text")
    amount_nano, alerts = asked.get("amount_nano"), asked.get("alerts", list(DEFAULT_ALERTS))
    if type(amount_nano) is not int:
        raise invalid("amount_nano", "must be a whole number of nano-units")
    if not isinstance(alerts, list) or not all(type(percent) is int for percent in alerts):
        raise invalid("alerts", "must be a list of percentages")
    if not isinstance(asked.get("hard", True), bool):
        raise invalid("hard", "must be true or false")
    return Budget(
        tenant=asked.get("tenant", services.settings.tenant),
        amount_nano=amount_nano,
        key_id=asked.get("key_id", ""),
        function=asked.get("function", ""),
        period=asked.get("period", "month"),
        hard=asked.get("hard", True),
        alerts=tuple(sorted(set(alerts))),
        set_at_us=services.clock.now_us(),
    )


def _document(services: Services, account: Account) -> dict[str, Any]:
    budget = account.budget
    return {
        "id": budget.id,
        "tenant": budget.tenant,
        "key_id": budget.key_id or None,
        "function": budget.function or None,
        "period": budget.period,
        "current_period": account.period.text,
        "currency": services.rates.book.currency,
        "amount_nano": budget.amount_nano,
        "spent_nano": account.spent_nano,
        "reserved_nano": account.reserved_nano,
        "left_nano": account.left_nano,
        "hard": budget.hard,
        "alerts": list(budget.alerts),
        "alerted": sorted(account.alerted),
        "resets_at": resets_at(account),
        "set_at": moment_text(budget.set_at_us),
    }


ROUTES = [
    Route("/budgets", list_budgets, methods=["GET"]),
    Route("/budgets", set_budget, methods=["POST"]),
    Route("/budgets/{id}", show_budget, methods=["GET"]),
    Route("/budgets/{id}", remove_budget, methods=["DELETE"]),
]
