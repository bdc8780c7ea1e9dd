"""`dsfn budgets`: how much may be used."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from dsfn.billing.money import minor_text
from dsfn.functions.errors import UsageError
from dsfn.runtime.cli.documents import BudgetDocument
from dsfn.runtime.cli.options import JsonOption, connect
from dsfn.runtime.cli.output import Column, local_time, print_fields, print_json, print_table, say

_NANO = Decimal(10**9)
_NANO_EXPONENT = 9


def set_budget(
    amount: Annotated[
        str,
        typer.Argument(
            metavar="AMOUNT", help="In the ledger's currency, like 250 or 0.5.", show_default=False
        ),
    ],
    tenant: Annotated[
        str | None, typer.Option(metavar="TENANT", help="Whose; the node's own without it.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--of-key", metavar="ID", help="Of one API key of the tenant.")
    ] = None,
    function: Annotated[
        str | None, typer.Option(metavar="NAME", help="For calls of one function.")
    ] = None,
    total: Annotated[
        bool, typer.Option("--total", help="In all, instead of in each calendar month (UTC).")
    ] = False,
    alert: Annotated[
        list[int] | None,
        typer.Option(
            metavar="PERCENT", help="When to tell; may be given again. 50, 80, 100 without it."
        ),
    ] = None,
    alert_only: Annotated[
        bool, typer.Option("--alert-only", help="Tell, and refuse nothing.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Set a budget, in the place of the one for the same tenant, key, function and period."""
    document: dict[str, Any] = {
        "amount_nano": _nano(amount),
        "period": "total" if total else "month",
        "hard": not alert_only,
    }
    chosen = {"tenant": tenant, "key_id": key, "function": function, "alerts": alert}
    document.update({name: value for name, value in chosen.items() if value is not None})
    with connect() as client:
        budget = client.set_budget(document)
    if json_output:
        print_json(budget)
    else:
        print_fields(_fields(budget))


def list_budgets(
    tenant: Annotated[
        str | None, typer.Option(metavar="TENANT", help="Whose; everybody's without it.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """List the budgets, with what is spent of them."""
    with connect() as client:
        budgets = client.budgets(tenant)
    if json_output:
        print_json({"budgets": budgets})
        return
    print_table(
        (
            Column("id"),
            Column("tenant"),
            Column("for"),
            Column("period"),
            Column("amount", right=True),
            Column("spent", right=True),
            Column("reserved", right=True),
            Column("stops"),
        ),
        [
            (
                budget["id"],
                budget["tenant"],
                _scope(budget),
                budget["current_period"],
                _money(budget, budget["amount_nano"]),
                _money(budget, budget["spent_nano"]),
                _money(budget, budget["reserved_nano"]),
                "yes" if budget["hard"] else "no",
            )
            for budget in budgets
        ],
        empty="There are no budgets.",
    )


def remove(
    budget_id: Annotated[
        str, typer.Argument(metavar="ID", help="The budget's id.", show_default=False)
    ],
    json_output: JsonOption = False,
) -> None:
    """Take a budget back."""
    with connect() as client:
        client.remove_budget(budget_id)
    if json_output:
        print_json({"id": budget_id, "removed": True})
    else:
        say(f"The budget {budget_id} is removed.")


def _nano(amount: str) -> int:
    """An amount in nano-units. Raises `UsageError`."""
    try:
        nano = Decimal(amount) * _NANO
        if nano < 0 or nano != int(nano):
            raise InvalidOperation
    except (InvalidOperation, ValueError, OverflowError):
        raise UsageError(
            f"{amount!r} is no amount; write one like 250 or 0.5, of up to 9 decimals."
        ) from None
    return int(nano)


def _fields(budget: BudgetDocument) -> tuple[tuple[str, str], ...]:
    resets = budget["resets_at"]
    return (
        ("id", budget["id"]),
        ("tenant", budget["tenant"]),
        ("for", _scope(budget)),
        ("period", budget["current_period"]),
        ("amount", _money(budget, budget["amount_nano"])),
        ("spent", _money(budget, budget["spent_nano"])),
        ("alerts", ", ".join(f"{percent} %" for percent in budget["alerts"]) or "none"),
        ("stops", "yes" if budget["hard"] else "no"),
        ("resets", local_time(resets) if resets else "never"),
    )


def _scope(budget: BudgetDocument) -> str:
    words = [f"key {budget['key_id']}"] if budget["key_id"] else []
    words += [budget["function"]] if budget["function"] else []
    return ", ".join(words) or "everything"


def _money(budget: BudgetDocument, nano: int) -> str:
    text = minor_text(nano, _NANO_EXPONENT).rstrip("0").rstrip(".")
    return f"{text} {budget['currency']}"
