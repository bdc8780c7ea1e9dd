"""Amounts, times and dates as a person reads them."""

from __future__ import annotations

from datetime import date

from dsfn.billing.money import minor_text

_MINUS = "\N{MINUS SIGN}"
_MICRO_EXPONENT = 6


def amount_text(amount_minor: int, exponent: int) -> str:
    """Minor units with the currency's decimals: 123456 with exponent 2 is "1,234.56"."""
    return _grouped(minor_text(amount_minor, exponent))


def seconds_text(time_us: int) -> str:
    """Microseconds as seconds, with as many decimals as it takes: "3,600.000001 s"."""
    return f"{_grouped(_trimmed(minor_text(time_us, _MICRO_EXPONENT)))} s"


def count_text(number: int) -> str:
    """A whole number: "1,234,567"."""
    return _grouped(str(number))


def date_text(day: date) -> str:
    """A date as letters write it: "30 November 2026"."""
    return f"{day.day} {day:%B %Y}"


def _trimmed(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


def _grouped(number: str) -> str:
    """A decimal number with its thousands parted and a minus sign that is as wide as a digit."""
    sign = _MINUS if number.startswith("-") else ""
    whole, point, decimals = number.lstrip("-").partition(".")
    return f"{sign}{int(whole):,}{point}{decimals}"
