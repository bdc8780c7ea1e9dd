"""What usage costs, as answers say it."""

from __future__ import annotations

from dsfn.billing.rates import RateCard
from dsfn.billing.usage import Usage
from dsfn.runtime.model import Charge


def charge_of(usage: Usage, card: RateCard) -> Charge:
    """What a call used, and what that costs by a rate card."""
    return Charge(
        device_class=usage.device_class,
        busy_us=usage.busy_us,
        held_us=usage.held_us,
        restore_us=usage.restore_us,
        cost_nano=card.cost_nano(usage),
        currency=card.currency,
    )
