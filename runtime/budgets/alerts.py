"""What is told when so much of a budget is spent: an event, once for each threshold and period."""

from __future__ import annotations

import json
import logging

import apsw

from dsfn.billing.periods import moment_text
from dsfn.billing.sqlite import transaction
from dsfn.functions.errors import StorageFull
from dsfn.functions.event import Event
from dsfn.functions.interface import JSON_CONTENT_TYPE
from dsfn.functions.values import dataclass
from dsfn.runtime.budgets.account import Account
from dsfn.runtime.budgets.budget import ALERT_KEY
from dsfn.runtime.budgets.store import BudgetStore
from dsfn.runtime.clock import Clock, rfc3339
from dsfn.runtime.events.router import Router
from dsfn.runtime.model import Payer

ALERT_TYPE = "dev.dsfn.budget.alert"
_LOG = logging.getLogger("dsfn.budgets")


@dataclass(frozen=True, slots=True)
class Alerts:
    """Tells of thresholds through the node's own router. What is done about an alert is on the
    account of `tenant`, the node's own, under `ALERT_KEY`, with which no budget has to do: one
    that is used up must not keep its own alert from being handled."""

    connection: apsw.Connection
    store: BudgetStore
    router: Router
    clock: Clock
    tenant: str
    currency: str

    def tell(self, account: Account) -> None:
        """Stores the events that are due, each together with the note that it was. On a full disk
        nothing is stored, and they are due again next time."""
        for percent in account.to_tell():
            try:
                with transaction(self.connection):
                    self._tell(account, percent)
            except StorageFull as error:
                _LOG.warning("An alert of a budget has to wait: %s", error.message)
                return
            account.alerted.add(percent)

    def _tell(self, account: Account, percent: int) -> None:
        budget, period, now_us = account.budget, account.period, self.clock.now_us()
        self.store.note_alert(budget.id, period.text, percent, now_us)
        data = {
            "budget": budget.id,
            "tenant": budget.tenant,
            "key_id": budget.key_id,
            "function": budget.function,
            "period": period.text,
            "percent": percent,
            "currency": self.currency,
            "amount_nano": budget.amount_nano,
            "spent_nano": account.spent_nano,
            "hard": budget.hard,
            "resets_at": resets_at(account),
        }
        self.router.store_small(
            Event(
                id=f"{period.text}.{percent}.{budget.set_at_us}",
                source=f"/budgets/{budget.id}",
                type=ALERT_TYPE,
                subject=budget.tenant,
                time=rfc3339(now_us),
                datacontenttype=JSON_CONTENT_TYPE,
                data=json.dumps(data).encode(),
            ),
            Payer(self.tenant, ALERT_KEY),
        )


def resets_at(account: Account) -> str | None:
    """When a budget begins anew, None when it never does."""
    return moment_text(account.period.end_us) if account.budget.period == "month" else None
