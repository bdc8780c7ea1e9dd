"""What has come of a budget: what is spent, and what is set aside for calls under way."""

from __future__ import annotations

from dataclasses import field

from dsfn.billing.money import ATTO_PER_NANO
from dsfn.billing.periods import Month
from dsfn.functions.values import dataclass
from dsfn.runtime.budgets.budget import Budget


@dataclass(eq=False, slots=True)
class Account:
    """A budget in its present period. Money is exact: what is spent is in atto-units.

    A call that costs no more than was reserved for it never brings the spending over the amount.
    `alerted`: the percentages that were told of in this period.
    """

    budget: Budget
    period: Month
    spent_atto: int = 0
    reserved_nano: int = 0
    alerted: set[int] = field(default_factory=set)

    @property
    def spent_nano(self) -> int:
        """What is spent, rounded up."""
        return -(-self.spent_atto // ATTO_PER_NANO)

    @property
    def left_nano(self) -> int:
        """What is neither spent nor set aside; negative when more was spent than there was."""
        return self.budget.amount_nano - self.spent_nano - self.reserved_nano

    def roll_over(self, now_us: int) -> None:
        """Begins anew when another period has begun. A clock that was set back changes nothing."""
        if now_us >= self.period.end_us:
            self.period = self.budget.period_at(now_us)
            self.spent_atto = 0
            self.alerted.clear()

    def to_tell(self) -> list[int]:
        """The percentages that are reached and were not told of."""
        reached = self.spent_atto * 100
        amount_atto = self.budget.amount_nano * ATTO_PER_NANO
        return [
            percent
            for percent in self.budget.alerts
            if percent not in self.alerted and reached >= percent * amount_atto
        ]
