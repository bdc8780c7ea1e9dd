"""What was spent of a budget: from the ledger, and row by row."""

from __future__ import annotations

from collections.abc import Iterator

from dsfn.billing.ledger import Ledger, UsageSum
from dsfn.billing.periods import Month
from dsfn.billing.rates import RateBook, RateCard
from dsfn.billing.selection import Selection
from dsfn.billing.service import parts_of, used_in
from dsfn.billing.usage import Usage
from dsfn.runtime.budgets.budget import Budget


def spent_atto(ledger: Ledger, book: RateBook, budget: Budget, period: Month) -> int:
    """The list price, exactly, of what counts for a budget in a period."""
    return sum(_priced(ledger, book, budget, period))


def cost_atto(row: Usage, book: RateBook, period: Month) -> int:
    """What one row adds to the above: the list price of the part of it that is in the period."""
    return sum(
        _sum_atto(segment.card, part)
        for segment in book.segments(period.start_us, period.end_us)
        for part in parts_of(
            row, book, segment.card, Selection(segment.start_us, segment.end_us, "key")
        )
    )


def _priced(ledger: Ledger, book: RateBook, budget: Budget, period: Month) -> Iterator[int]:
    for segment in book.segments(period.start_us, period.end_us):
        selection = Selection(segment.start_us, segment.end_us, "key", tenant=budget.tenant)
        for each in used_in(ledger, book, segment.card, selection):
            if budget.is_about(each.key_id, each.function):
                yield _sum_atto(segment.card, each)


def _sum_atto(card: RateCard, used: UsageSum) -> int:
    if used.status not in card.billed:
        return 0
    rate = card.rate(used.device_class)
    time_us = rate.time_us(used.busy_us, used.held_us, used.restore_us)
    return rate.amount_atto(time_us + used.padding_us, used.requests)
