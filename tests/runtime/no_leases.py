"""Leases for what a test runs beside what it is about: nobody posts their rows."""

from __future__ import annotations

from itertools import count

from dsfn.runtime.clock import SystemClock
from dsfn.runtime.leases.leases import Leases


def no_leases() -> Leases:
    """All devices are "cpu"."""
    numbers = count()
    return Leases(SystemClock(), lambda _: f"lease-{next(numbers)}", lambda _: "cpu")
