"""A budget as somebody sets it."""

from __future__ import annotations

from hashlib import sha256
from typing import Literal, get_args

from dsfn.billing.periods import Month
from dsfn.functions.invalid import invalid
from dsfn.functions.options import NAME_PATTERN
from dsfn.functions.values import dataclass
from dsfn.runtime.access.keys import check_tenant

Period = Literal["month", "total"]
PERIODS: tuple[str, ...] = get_args(Period)
# What is in the place of a key's id in the rows of calls that an alert leads to.
ALERT_KEY = "budget-alerts"
DEFAULT_ALERTS = (50, 80, 100)
MAX_AMOUNT_NANO = 10**18
MAX_ALERTS = 10
MAX_PERCENT = 1000
MAX_KEY_CHARS = 64
_ID_DIGITS = 16
# From the first moment on, for ever.
_TOTAL = Month("total", 0, 2**62)


@dataclass(frozen=True, slots=True)
class Budget:
    """How much money may be used, in nano-units of the ledger's currency.

    `key_id`, `function`: of which API key and by which function alone, "" for all. `period`: in a
    calendar month (UTC), or in all. `alerts`: at which percentages somebody is told. `hard`: what
    would cost more is refused.

    Raises `InvalidInput` for what makes no sense.
    """

    tenant: str
    amount_nano: int
    key_id: str = ""
    function: str = ""
    period: Period = "month"
    hard: bool = True
    alerts: tuple[int, ...] = DEFAULT_ALERTS
    set_at_us: int = 0

    def __post_init__(self) -> None:
        check_tenant(self.tenant)
        if not 0 <= self.amount_nano <= MAX_AMOUNT_NANO:
            raise invalid("amount_nano", f"is a whole number from 0 to {MAX_AMOUNT_NANO}")
        if len(self.key_id) > MAX_KEY_CHARS or not self.key_id.isascii():
            raise invalid("key_id", "is the id of an API key")
        if self.function and NAME_PATTERN.fullmatch(self.function) is None:
            raise invalid("function", "is the name of a function")
        if self.period not in PERIODS:
            raise invalid("period", f"is one of {', '.join(PERIODS)}")
        if len(self.alerts) > MAX_ALERTS:
            raise invalid("alerts", f"are at most {MAX_ALERTS}")
        if not all(0 < percent <= MAX_PERCENT for percent in self.alerts):
            raise invalid("alerts", f"are percentages from 1 to {MAX_PERCENT}")

    @property
    def id(self) -> str:
        """The same for the same tenant, key, function and period: there is one budget for these."""
        parts = (self.tenant, self.key_id, self.function, self.period)
        joined = "".join(f"{len(part)}:{part}" for part in parts)
        return sha256(joined.encode()).hexdigest()[:_ID_DIGITS]

    def is_about(self, key_id: str, function: str) -> bool:
        """Whether a call of the tenant by this key and function counts."""
        if key_id == ALERT_KEY:
            return False
        return self.key_id in ("", key_id) and self.function in ("", function)

    def period_at(self, now_us: int) -> Month:
        """The stretch of time whose spending counts at a moment."""
        return Month.containing(now_us) if self.period == "month" else _TOTAL
