"""Budgets in the node's database, and which alerts went out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apsw

from dsfn.billing.sqlite import load_queries, transaction
from dsfn.functions.errors import Conflict
from dsfn.runtime.budgets.budget import Budget

MAX_BUDGETS = 1000
_QUERIES = load_queries("dsfn.runtime.budgets", "sql/budgets.sql")


class BudgetStore:
    """The budgets that are kept. Belongs to the event loop's thread."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        with transaction(connection):
            connection.execute(_QUERIES["schema"])

    def all(self) -> list[Budget]:
        """Every budget, by tenant."""
        rows: Iterable[Any] = self._connection.execute(_QUERIES["select"])
        return [_budget(*row) for row in rows]

    def tenants(self) -> list[str]:
        """The tenants for whom money may be set aside in the ledger."""
        return [str(tenant) for (tenant,) in self._connection.execute(_QUERIES["tenants"])]

    def forget_tenants(self) -> None:
        """Nothing is set aside for tenants without a budget. Raises `StorageFull`."""
        with transaction(self._connection) as connection:
            connection.execute(_QUERIES["drop_tenants"])

    def put(self, budget: Budget, others: int, period: str, reached_percent: int) -> None:
        """Keeps a budget, in the place of the one that was there. `others`: how many there are
        beside it; `reached_percent` of its amount are spent in `period`.

        Raises `Conflict` when there are too many, `StorageFull`.
        """
        if others >= MAX_BUDGETS:
            raise Conflict(f"There are {MAX_BUDGETS} budgets already.", limit=MAX_BUDGETS)
        with transaction(self._connection) as connection:
            connection.execute(_QUERIES["put"], _row(budget))
            connection.execute(_QUERIES["put_tenant"], (budget.tenant,))
            connection.execute(_QUERIES["take_back_alerts"], (budget.id, period, reached_percent))

    def remove(self, id_: str) -> None:
        """Drops a budget. Raises `StorageFull`."""
        with transaction(self._connection) as connection:
            connection.execute(_QUERIES["delete"], (id_,))

    def alerted(self, id_: str, period: str) -> set[int]:
        """The percentages that were told of."""
        rows = self._connection.execute(_QUERIES["alerted"], (id_, period))
        return {int(percent) for (percent,) in rows}

    def note_alert(self, id_: str, period: str, percent: int, now_us: int) -> None:
        """Notes that a percentage is told of, inside the caller's transaction."""
        self._connection.execute(_QUERIES["alert"], (id_, period, percent, now_us))


def _row(budget: Budget) -> tuple[Any, ...]:
    return (
        budget.id,
        budget.tenant,
        budget.amount_nano,
        budget.key_id,
        budget.function,
        budget.period,
        int(budget.hard),
        " ".join(map(str, budget.alerts)),
        budget.set_at_us,
    )


def _budget(
    tenant: str,
    amount_nano: int,
    key_id: str,
    function: str,
    period: Any,
    hard: int,
    alerts: str,
    set_at_us: int,
) -> Budget:
    percents = tuple(map(int, alerts.split()))
    return Budget(tenant, amount_nano, key_id, function, period, bool(hard), percents, set_at_us)
