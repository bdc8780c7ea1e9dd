"""Rate cards from documents: the configuration's `[billing]` table, files of `dsfn rates`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dsfn.billing.checking import MAX_DURATION_US
from dsfn.billing.currencies import exponent_of
from dsfn.billing.money import MAX_EXPONENT
from dsfn.billing.periods import instant_of
from dsfn.billing.rates.card import BILLABLE, RateCard
from dsfn.billing.rates.rate import BASES, TIERINGS, Rate, Tier
from dsfn.functions.errors import UsageError

MAX_RATE_PICO = 10**18
MAX_TIERS = 20
MAX_BASIS_POINTS = 10_000
MAX_REQUESTS = 2**48
MAX_MINIMUM_MINOR = 10**12
MAX_TAX_NAME_LENGTH = 40
MAX_INCREMENT_US = 3_600_000_000
_CARD_KEYS = {
    "currency",
    "exponent",
    "billed",
    "default",
    "devices",
    "effective_from",
    "discounts",
    "tax",
    "taxes",
    "tax_name",
    "minimum_minor",
}
_RATE_KEYS = {
    "pico_per_second",
    "basis",
    "pico_per_request",
    "increment_us",
    "free_us",
    "free_requests",
    "tiers",
    "tiering",
}


def read_card(document: Mapping[str, Any], key: str = "") -> RateCard:
    """The card that a document is; what it leaves out is the example card's, but that with a
    `default` of its own it has no example price for the CPU either.

    `key`: where the document lies, such as "billing". Raises `UsageError` that names the key.
    """
    key = f"{key}." if key else ""
    _known(document, key, _CARD_KEYS)
    standard = RateCard()
    devices = _table(document.get("devices", {}), f"{key}devices")
    own = {name: _rate(value, f"{key}devices.{name}") for name, value in devices.items()}
    default = document.get("default")
    currency = _currency(document.get("currency", standard.currency), key)
    exponent = document.get("exponent", exponent_of(currency))
    return RateCard(
        currency=currency,
        exponent=_integer(exponent, f"{key}exponent", MAX_EXPONENT),
        devices={**standard.devices, **own} if default is None else own,
        default=standard.default if default is None else _rate(default, f"{key}default"),
        billed=_billed(document.get("billed", sorted(BILLABLE)), key),
        effective_from_us=_instant(document.get("effective_from"), f"{key}effective_from"),
        discounts=_points(document.get("discounts", {}), f"{key}discounts"),
        taxes=_points(document.get("taxes", {}), f"{key}taxes"),
        tax=_integer(document.get("tax", 0), f"{key}tax", MAX_BASIS_POINTS),
        tax_name=_tax_name(document.get("tax_name", standard.tax_name), key),
        minimum_minor=_integer(
            document.get("minimum_minor", 0), f"{key}minimum_minor", MAX_MINIMUM_MINOR
        ),
    )


def configured_card(table: Mapping[str, Any]) -> RateCard:
    """The card that the configuration's `[billing]` table is. Raises `UsageError`."""
    if "effective_from" in table:
        raise UsageError(
            "billing.effective_from is not for the configuration, whose rates hold from the start;"
            " `dsfn rates set` takes a card with a moment."
        )
    return read_card(table, "billing")


def _rate(value: object, key: str) -> Rate:
    table = _table(value, key)
    _known(table, f"{key}.", _RATE_KEYS)
    basis, tiering = table.get("basis", "held"), table.get("tiering", "graduated")
    if basis not in BASES:
        raise UsageError(f"{key}.basis must be one of {', '.join(BASES)}, not {basis!r}.")
    if tiering not in TIERINGS:
        raise UsageError(f"{key}.tiering must be one of {', '.join(TIERINGS)}, not {tiering!r}.")
    increment_us = _integer(table.get("increment_us", 1), f"{key}.increment_us", MAX_INCREMENT_US)
    if increment_us == 0:
        raise UsageError(f"{key}.increment_us must be at least 1.")
    return Rate(
        pico_per_second=_pico(table.get("pico_per_second"), f"{key}.pico_per_second"),
        basis=basis,
        pico_per_request=_pico(table.get("pico_per_request", 0), f"{key}.pico_per_request"),
        increment_us=increment_us,
        free_us=_integer(table.get("free_us", 0), f"{key}.free_us", MAX_DURATION_US),
        free_requests=_integer(table.get("free_requests", 0), f"{key}.free_requests", MAX_REQUESTS),
        tiers=_tiers(table.get("tiers", []), f"{key}.tiers"),
        tiering=tiering,
    )


def _tiers(value: object, key: str) -> tuple[Tier, ...]:
    if not isinstance(value, list) or len(value) > MAX_TIERS:
        raise UsageError(f"{key} must be a list of at most {MAX_TIERS} tables.")
    tiers: list[Tier] = []
    for index, each in enumerate(value):
        table = _table(each, f"{key}[{index}]")
        _known(table, f"{key}[{index}].", {"from_us", "pico_per_second"})
        from_us = _integer(table.get("from_us"), f"{key}[{index}].from_us", MAX_DURATION_US)
        price = _pico(table.get("pico_per_second"), f"{key}[{index}].pico_per_second")
        if from_us <= (tiers[-1].from_us if tiers else 0):
            raise UsageError(f"{key}[{index}].from_us must be above that of the tier before.")
        tiers.append(Tier(from_us, price))
    return tuple(tiers)


def _points(value: object, key: str) -> dict[str, int]:
    table = _table(value, key)
    return {name: _integer(v, f"{key}.{name}", MAX_BASIS_POINTS) for name, v in table.items()}


def _instant(value: object, key: str) -> int:
    """Microseconds since the epoch; TOML has a type of its own for a moment, JSON a text."""
    if value is None:
        return 0
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise UsageError(
            f"{key} must be a moment with its offset, such as 2026-11-01T00:00:00Z, not {value!r}."
        )
    instant_us = instant_of(moment)
    if instant_us < 0:
        raise UsageError(f"{key} must not be before 1970.")
    return instant_us


def _billed(value: object, key: str) -> frozenset[str]:
    if not isinstance(value, list) or not BILLABLE.issuperset(map(str, value)):
        raise UsageError(f"{key}billed must be a list of {', '.join(sorted(BILLABLE))}.")
    return frozenset(map(str, value))


def _currency(value: object, key: str) -> str:
    if not isinstance(value, str) or re.fullmatch("[A-Z]{3}", value) is None:
        raise UsageError(f"{key}currency must be three capital letters, such as 'USD'.")
    return value


def _tax_name(value: object, key: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TAX_NAME_LENGTH:
        raise UsageError(f"{key}tax_name must be a text of 1 to {MAX_TAX_NAME_LENGTH} characters.")
    return value


def _pico(value: object, key: str) -> int:
    return _integer(value, key, MAX_RATE_PICO)


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
            raise UsageError(f"{key}{name} is not a setting; there are {', '.join(sorted(known))}.")
