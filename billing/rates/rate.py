"""The price of one device class: of its time, in tiers if it has some, and of each request."""

from __future__ import annotations

from typing import Literal, get_args

from dsfn.billing.money import ATTO_PER_NANO, ATTO_PER_PICO
from dsfn.functions.values import dataclass

Basis = Literal["busy", "held", "held+restore"]
BASES: tuple[str, ...] = get_args(Basis)
Tiering = Literal["graduated", "volume"]
TIERINGS: tuple[str, ...] = get_args(Tiering)


@dataclass(frozen=True, slots=True)
class Tier:
    """A price that holds from `from_us` of a month's quantity on."""

    from_us: int
    pico_per_second: int


@dataclass(frozen=True, slots=True)
class Rate:
    """A price: of time, by `basis`, and of each request.

    `increment_us`: each request's time is rounded up to a multiple of it. `free_us` and
    `free_requests`: a tenant's allowance for a month. `tiers`: prices that follow
    `pico_per_second` once a tenant's month has reached their quantity; `graduated`: for what is
    over it, `volume`: for all of it.
    """

    pico_per_second: int
    basis: Basis = "held"
    pico_per_request: int = 0
    increment_us: int = 1
    free_us: int = 0
    free_requests: int = 0
    tiers: tuple[Tier, ...] = ()
    tiering: Tiering = "graduated"

    def time_us(self, busy_us: int, held_us: int, restore_us: int) -> int:
        """The time that the basis bills, before increments."""
        if self.basis == "busy":
            return busy_us
        return held_us + restore_us if self.basis == "held+restore" else held_us

    def quantity_us(self, busy_us: int, held_us: int, restore_us: int) -> int:
        """The time of one request that is billed."""
        time_us = self.time_us(busy_us, held_us, restore_us)
        return -(-time_us // self.increment_us) * self.increment_us

    def padding_us(self, busy_us: int, held_us: int, restore_us: int) -> int:
        """What rounding it up to the increment adds to the time of one request."""
        return -self.time_us(busy_us, held_us, restore_us) % self.increment_us

    def amount_atto(self, quantity_us: int, requests: int) -> int:
        """The exact list price in atto-currency: without tiers and allowances."""
        return quantity_us * self.pico_per_second + self.requests_atto(requests)

    def requests_atto(self, requests: int) -> int:
        """What so many requests cost beside their time."""
        return requests * self.pico_per_request * ATTO_PER_PICO

    def cost_nano(self, busy_us: int, held_us: int, restore_us: int) -> int:
        """What one request of these times costs by the list, truncated to nano-currency."""
        quantity_us = self.quantity_us(busy_us, held_us, restore_us)
        return self.amount_atto(quantity_us, requests=1) // ATTO_PER_NANO

    def affordable_us(self, amount_nano: int, restore_us: int) -> int | None:
        """How long a device may be held for one request that costs `amount_nano` at most: less
        than nothing when even the request does not fit, None when time costs nothing."""
        left_atto = amount_nano * ATTO_PER_NANO - self.requests_atto(1)
        if self.pico_per_second == 0:
            return None if left_atto >= 0 else -1
        quantity_us = left_atto // self.pico_per_second // self.increment_us * self.increment_us
        return quantity_us - restore_us if self.basis == "held+restore" else quantity_us

    def tiered_atto(self, before_us: int, quantity_us: int, month_us: int) -> int:
        """The exact price in atto-currency of `quantity_us` after `before_us` of the same month;
        `month_us` is the quantity of the whole month, which decides a price by volume. A quantity
        below 0 was taken back."""
        if self.tiering == "volume":
            return quantity_us * self._price(month_us)
        if quantity_us < 0:
            return -self.tiered_atto(before_us + quantity_us, -quantity_us, month_us)
        total, position_us, end_us = 0, before_us, before_us + quantity_us
        for tier in self.tiers:
            if position_us < tier.from_us:
                reach_us = min(end_us, tier.from_us)
                total += (reach_us - position_us) * self._price(position_us)
                position_us = reach_us
        return total + (end_us - position_us) * self._price(position_us)

    def _price(self, at_us: int) -> int:
        reached = [t.pico_per_second for t in self.tiers if t.from_us <= at_us]
        return reached[-1] if reached else self.pico_per_second
