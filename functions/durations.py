"""Durations as people write them."""

from __future__ import annotations

import re

from dsfn.functions.errors import DefinitionError

Seconds = float | str

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# More digits than any duration has would be infinite.
_WHOLE = "[0-9]{1,15}"
_SHORT = re.compile(rf"\s*({_WHOLE}(?:\.[0-9]+)?)\s*(ms|s|m|h)\s*")
_ISO = re.compile(
    rf"P(?:({_WHOLE})D)?"
    rf"(?:T(?=[0-9])(?:({_WHOLE})H)?(?:({_WHOLE})M)?(?:({_WHOLE}(?:\.[0-9]+)?)S)?)?"
)


def parse_seconds(value: Seconds, option: str) -> float:
    """Seconds from a number, a text such as "90s", "5m", "1h", or ISO 8601's "PT0.2S".

    Raises `DefinitionError`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise DefinitionError(f"{option} must be a duration, not {type(value).__name__}.")
    if not isinstance(value, str):
        return float(value)
    if short := _SHORT.fullmatch(value):
        return float(short[1]) * _SECONDS[short[2]]
    iso = _ISO.fullmatch(value)
    if iso is None or not any(iso.groups()):
        raise DefinitionError(f"{option} {value!r} is not a duration; write it like '90s' or '5m'.")
    days, hours, minutes, rest = (float(part or 0) for part in iso.groups())
    return days * 86_400 + hours * 3_600 + minutes * 60 + rest


def check_seconds(option: str, value: float, least: float, most: float) -> None:
    """Raises `DefinitionError` unless it is a number of seconds between the two."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise DefinitionError(f"{option} must be from {least:g} to {most:g} seconds.")
