"""What usage costs: one rate for each device class, in one currency."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from dsfn.billing.money import ATTO_PER_NANO, ATTO_PER_PICO, MAX_EXPONENT
from dsfn.billing.usage import Usage
from dsfn.functions.errors import UsageError

Basis = Literal["busy", "held", "held+restore"]
BASES: tuple[str, ...] = get_args(Basis)
MAX_RATE_PICO = 10**18
# "rejected" used nothing and "platform" is not the tenant's fault: neither is ever billed.
BILLABLE = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one device class: of its time, by `basis`, and of each request."""

    pico_per_second: int
    basis: Basis = "held"
    pico_per_request: int = 0

    def quantity_us(self, busy_us: int, held_us: int, restore_us: int) -> int:
        """The time that is billed."""
        if self.basis == "busy":
            return busy_us
        return held_us + restore_us if self.basis == "held+restore" else held_us

    def amount_atto(self, quantity_us: int, requests: int) -> int:
        """The exact price in atto-currency."""
        return quantity_us * self.pico_per_second + requests * self.pico_per_request * ATTO_PER_PICO

    def cost_nano(self, busy_us: int, held_us: int, restore_us: int) -> int:
        """What one request of these times costs, truncated to nano-currency."""
        quantity_us = self.quantity_us(busy_us, held_us, restore_us)
        return self.amount_atto(quantity_us, requests=1) // ATTO_PER_NANO

    def affordable_us(self, amount_nano: int, restore_us: int) -> int | None:
        """How long a device may be held for one request that costs `amount_nano` at most: less
        than nothing when even the request does not fit, None when time costs nothing."""
        left_atto = amount_nano * ATTO_PER_NANO - self.amount_atto(0, requests=1)
        if self.pico_per_second == 0:
            return None if left_atto >= 0 else -1
        quantity_us = left_atto // self.pico_per_second
        return quantity_us - restore_us if self.basis == "held+restore" else quantity_us


# Examples, not advice: about 0.04 USD an hour for a CPU, and 3.60 USD for any other device.
EXAMPLE_CPU = Rate(pico_per_second=11_500_000)
EXAMPLE_GPU = Rate(pico_per_second=1_000_000_000)


@dataclass(frozen=True, slots=True)
class RateCard:
    """The rates in force. `default` is for device classes without a rate of their own.

    `exponent`: the currency's decimals. `billed`: the statuses that cost something.
    """

    currency: str = "USD"
    exponent: int = 2
    devices: Mapping[str, Rate] = field(default_factory=lambda: {"cpu": EXAMPLE_CPU})
    default: Rate = EXAMPLE_GPU
    billed: frozenset[str] = BILLABLE

    def rate(self, device_class: str) -> Rate:
        """The rate of a device class."""
        return self.devices.get(device_class, self.default)

    def cost_nano(self, usage: Usage) -> int:
        """What one invocation costs, truncated to nano-currency.

        An estimate for the answer's header: the bill adds up exact amounts and
        rounds once for each line.
        """
        if usage.status not in self.billed:
            return 0
        return self.rate(usage.device_class).cost_nano(
            usage.busy_us, usage.held_us, usage.restore_us
        )

    def most_nano(self, device_class: str, held_us: int, restore_us: int) -> int:
        """The most that one invocation of this length can cost, rounded up."""
        rate = self.rate(device_class)
        quantity_us = rate.quantity_us(held_us, held_us, restore_us)
        return -(-rate.amount_atto(quantity_us, requests=1) // ATTO_PER_NANO)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> RateCard:
        """Reads the `[billing]` table of the configuration; what it leaves out is the default.

        Raises `UsageError` that names the key.
        """
        _known(document, "billing", {"currency", "exponent", "billed", "default", "devices"})
        standard = cls()
        devices = _table(document.get("devices", {}), "billing.devices")
        own = {name: _rate(value, f"billing.devices.{name}") for name, value in devices.items()}
        default = document.get("default")
        return cls(
            currency=_currency(document.get("currency", standard.currency)),
            exponent=_integer(
                document.get("exponent", standard.exponent), "billing.exponent", MAX_EXPONENT
            ),
            devices={**standard.devices, **own},
            default=standard.default if default is None else _rate(default, "billing.default"),
            billed=_billed(document.get("billed", sorted(BILLABLE))),
        )


def _rate(value: object, key: str) -> Rate:
    table = _table(value, key)
    _known(table, key, {"pico_per_second", "basis", "pico_per_request"})
    basis = table.get("basis", "held")
    if basis not in BASES:
        raise UsageError(f"{key}.basis must be one of {', '.join(BASES)}, not {basis!r}.")
    return Rate(
        pico_per_second=_integer(
            table.get("pico_per_second"), f"{key}.pico_per_second", MAX_RATE_PICO
        ),
        basis=basis,
        pico_per_request=_integer(
            table.get("pico_per_request", 0), f"{key}.pico_per_request", MAX_RATE_PICO
        ),
    )


def _billed(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not BILLABLE.issuperset(map(str, value)):
        raise UsageError(f"billing.billed must be a list of {', '.join(sorted(BILLABLE))}.")
    return frozenset(map(str, value))


def _currency(value: object) -> str:
    if not isinstance(value, str) or re.fullmatch("[A-Z]{3}", value) is None:
        raise UsageError("billing.currency must be three capital letters, such as 'USD'.")
    return value


def _integer(value: object, key: str, limit: int) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise UsageError(f"{key} must be a whole number from 0 to {limit}, not {value!r}.")
    return value


def _table(value: object, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{key} must be a table.")
    return value


def _known(table: Mapping[str, Any], key: str, known: set[str]) -> None:
    for name in table:
        if name not in known:
            raise UsageError(
                f"{key}.{name} is not a setting; there are {', '.join(sorted(known))}."
            )
