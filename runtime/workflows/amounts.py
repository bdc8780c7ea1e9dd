"""Times and amounts of money in as few characters as they need."""

from __future__ import annotations

_NANO_DIGITS = 9


def duration(time_us: int) -> str:
    """ "850 µs", "12.3 ms", "4.1 s", "2 min 5 s", "3 h 12 min"."""
    if time_us < 1000:
        return f"{time_us} µs"
    if time_us < 999_950:
        return f"{time_us / 1000:.1f} ms"
    if time_us < 99_950_000:
        return f"{time_us / 1e6:.1f} s"
    minutes, seconds = divmod(round(time_us / 1e6), 60)
    if minutes < 100:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(round(time_us / 60e6), 60)
    return f"{hours} h {minutes} min"


def money(nano: int) -> str:
    """An amount without zeros that say nothing: 2_340_000 -> "0.00234"."""
    whole, rest = divmod(abs(nano), 10**_NANO_DIGITS)
    decimals = f"{rest:09d}".rstrip("0")
    sign = "-" if nano < 0 else ""
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"
