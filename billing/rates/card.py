"""A rate card: what everything costs, in one currency, from a moment on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from dsfn.billing.money import ATTO_PER_NANO
from dsfn.billing.rates.rate import Rate
from dsfn.billing.usage import Usage
from dsfn.functions.values import dataclass

# "rejected" used nothing and "platform" is not the tenant's fault: neither is ever billed.
BILLABLE = frozenset({"succeeded", "failed", "cancelled"})
# Examples, not advice: about 0.04 USD an hour for a CPU, and 3.60 USD for any other device.
EXAMPLE_CPU = Rate(pico_per_second=11_500_000)
EXAMPLE_GPU = Rate(pico_per_second=1_000_000_000)


@dataclass(frozen=True, slots=True)
class RateCard:
    """Rates in force from `effective_from_us` (UTC) on, until the next card's.

    `default` is for device classes without a rate of their own. `exponent`: the currency's
    decimals. `billed`: the statuses that cost something. In basis points (hundredths of a
    percent): `discounts` by tenant, `taxes` by tenant, `tax` for all others; `tax_name` is what
    the invoice calls it. `minimum_minor`: the least that a tenant with any usage pays for a
    month, before tax. `number`: in the order in which a book's cards were set, from 1.
    """

    currency: str = "USD"
    exponent: int = 2
    devices: Mapping[str, Rate] = field(default_factory=lambda: {"cpu": EXAMPLE_CPU})
    default: Rate = EXAMPLE_GPU
    billed: frozenset[str] = BILLABLE
    effective_from_us: int = 0
    discounts: Mapping[str, int] = field(default_factory=dict)
    taxes: Mapping[str, int] = field(default_factory=dict)
    tax: int = 0
    tax_name: str = "Tax"
    minimum_minor: int = 0
    number: int = 1

    def rate(self, device_class: str) -> Rate:
        """The rate of a device class."""
        return self.devices.get(device_class, self.default)

    @property
    def rounds(self) -> bool:
        """Whether the time of requests is rounded up on some device class."""
        return any(rate.increment_us > 1 for rate in (*self.devices.values(), self.default))

    def tax_of(self, tenant: str) -> int:
        """A tenant's tax in basis points."""
        return self.taxes.get(tenant, self.tax)

    def cost_nano(self, usage: Usage) -> int:
        """What one invocation costs by the list, truncated to nano-currency.

        An estimate for the answer's header: the bill adds up exact amounts, knows the month's
        tiers and allowances, and rounds once for each line.
        """
        return self.cost_atto(usage) // ATTO_PER_NANO

    def cost_atto(self, usage: Usage) -> int:
        """The same exactly, in atto-currency."""
        if usage.status not in self.billed:
            return 0
        rate, devices = self.rate(usage.device_class), usage.devices
        times_us = (usage.busy_us * devices, usage.held_us * devices, usage.restore_us * devices)
        return rate.amount_atto(rate.quantity_us(*times_us), requests=1)

    def most_nano(self, device_class: str, held_us: int, restore_us: int) -> int:
        """The most that one invocation of this length can cost by the list, rounded up."""
        rate = self.rate(device_class)
        quantity_us = rate.quantity_us(held_us, held_us, restore_us)
        return -(-rate.amount_atto(quantity_us, requests=1) // ATTO_PER_NANO)
