"""Leases and budgets for what a test runs beside what it is about."""

from __future__ import annotations

from itertools import count

from dsfn.billing.usage import Usage
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.leases.leases import Leases
from dsfn.runtime.metering import Books, Meter
from dsfn.runtime.writer import Bundle, InlineWriter, Writer, alone


def no_leases() -> Leases:
    """All devices are "cpu"; nobody posts their rows."""
    numbers = count()
    return Leases(SystemClock(), lambda _: f"lease-{next(numbers)}", lambda _: "cpu")


class NoBudgets:
    """Nothing is set aside for calls."""

    def bundle(self, usage: Usage) -> Bundle:
        return alone(usage)

    def settled(self, usage: Usage, error: Exception | None) -> None:
        """There is nothing to settle."""


def meter_of(ledger: Books, leases: Leases | None = None, writer: Writer | None = None) -> Meter:
    """A meter without budgets."""
    return Meter(writer or InlineWriter(), ledger, ledger.post, NoBudgets(), leases or no_leases())
