"""What the journal adds up to, kept beside it: sums by day and balances of accounts.

They are written in the commit of the rows that they are about, so that reports need not read
those; the check of a ledger makes them anew from the rows and compares.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from typing import NamedTuple

from dsfn.billing.entry import CLOSED, DOCUMENT, RESERVATION, SETTLEMENT, Entry, getter
from dsfn.billing.periods import DAY_US
from dsfn.functions.values import dataclass


class RollupKey(NamedTuple):
    """What the rows of one sum have in common. `day`: days since 1970-01-01."""

    kind: str
    day: int
    period: str
    tenant: str
    key_id: str
    function: str
    revision: str
    workflow: str
    device_class: str
    status: str


class RollupSum(NamedTuple):
    """How many rows, and their times x devices; an interval's time is `held_us`."""

    rows: int
    busy_us: int
    held_us: int
    restore_us: int


@dataclass(slots=True)
class Totals:
    """What some rows add to the sums and balances.

    `sums`: by the fields of `RollupKey`, those of `RollupSum`. `balances`: debits less credits,
    by account and commodity. `closed`: those of them that are a lease which is over.
    `reservations`: by tenant and id, 1 for one that was made, -1 for one that was settled.
    `documents`: by number, tenant, kind and what is reversed, the amount in nano-units.
    """

    sums: dict[tuple[str | int, ...], list[int]] = field(default_factory=dict)
    balances: dict[tuple[str, str], int] = field(default_factory=dict)
    closed: set[tuple[str, str]] = field(default_factory=set)
    reservations: dict[tuple[str, str], int] = field(default_factory=dict)
    documents: dict[tuple[str, str, str, str], int] = field(default_factory=dict)

    def add(self, entries: Iterable[Entry]) -> None:
        """Adds rows."""
        for entry in entries:
            self.add_alike(entry, 1)

    def add_alike(self, entry: Entry, rows: int) -> None:
        """Adds so many rows about time that are alike, `entry` having what they come to, or one."""
        balances, amount = self.balances, entry.amount
        debit, credit = _debit(entry), _credit(entry)
        balances[debit] = balances.get(debit, 0) + amount
        balances[credit] = balances.get(credit, 0) - amount
        if entry.status == CLOSED:
            self.closed.add(debit)
        if entry.device_class:
            self._add_time(entry, rows)
        elif entry.source in _RESERVING:
            name = (entry.tenant, entry.id)
            count = self.reservations.get(name, 0) + _RESERVING[entry.source]
            self.reservations[name] = count
        elif entry.source == DOCUMENT:
            self.documents[entry.id, entry.tenant, entry.kind, entry.reverses] = amount

    def _add_time(self, entry: Entry, rows: int) -> None:
        devices, started_at_us, busy_us, held_us, restore_us = times_of(entry)
        kind = entry.kind
        if kind == "reversal":
            # Only calls are reversed: the sum is as if it had never been.
            kind, rows, devices = "usage", -rows, -devices
        key = (kind, started_at_us // DAY_US, *dimensions_of(entry))
        sums = self.sums.get(key)
        if sums is None:
            sums = self.sums[key] = [0, 0, 0, 0]
        sums[0] += rows
        sums[1] += busy_us * devices
        sums[2] += held_us * devices
        sums[3] += restore_us * devices


_RESERVING = {RESERVATION: 1, SETTLEMENT: -1}
# The devices of an entry, when it began, and its times.
times_of = getter("devices", "started_at_us", "busy_us", "held_us", "restore_us")
_debit, _credit = getter("debit", "commodity"), getter("credit", "commodity")
# What sums of calls are by beside their day, as in `RollupKey`.
dimensions_of = getter(*RollupKey._fields[2:])
