"""Money as integers, from a rate to an invoice.

    rates       pico-currency per second and per request       10^-12
    amounts     atto-currency: microseconds x pico per second  10^-18, exact
    ledger      nano-currency                                  10^-9
    invoices    minor units, 10^-exponent (cents for USD)

Microseconds times pico-currency per second are atto-currency without a
remainder, so nothing is rounded before the line of an invoice.
"""

from __future__ import annotations

from collections.abc import Sequence

ATTO_PER_NANO = 10**9
ATTO_PER_PICO = 10**6
MAX_EXPONENT = 9
NANO_EXPONENT = 9


def half_even(amount: int, unit: int) -> int:
    """`amount` in whole `unit`s, the nearest, and the even one of two equally near."""
    quotient, remainder = divmod(amount, unit)
    twice = 2 * remainder
    if twice > unit or (twice == unit and quotient % 2 == 1):
        return quotient + 1
    return quotient


def apportioned(amounts: Sequence[int], unit: int) -> tuple[int, ...]:
    """Exact amounts in whole `unit`s that add up to what their sum is, rounded half-even.

    Each is rounded down; those with the largest remainders, of equal ones the earlier, are then
    one unit more. None is a whole unit away from its exact amount, whatever the signs.
    """
    parts = [amount // unit for amount in amounts]
    lacking = half_even(sum(amounts), unit) - sum(parts)
    largest = sorted(range(len(amounts)), key=lambda i: (-(amounts[i] % unit), i))
    for index in largest[:lacking]:
        parts[index] += 1
    return tuple(parts)


def atto_per_minor(exponent: int) -> int:
    """How many atto-units one minor unit is, for a currency with `exponent` decimals."""
    return int(10 ** (18 - exponent))


def minor_text(amount_minor: int, exponent: int) -> str:
    """Minor units as a decimal number: 1234 with exponent 2 is "12.34"."""
    sign = "-" if amount_minor < 0 else ""
    digits = str(abs(amount_minor)).rjust(exponent + 1, "0")
    return f"{sign}{digits[:-exponent]}.{digits[-exponent:]}" if exponent else sign + digits


def percent(points: int) -> str:
    """Basis points as percent: 1925 is "19.25 %"."""
    text = minor_text(points, 2)
    return f"{text.rstrip('0').rstrip('.')} %"
