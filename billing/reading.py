"""What can be read in a ledger, whichever database keeps it: the same queries, the same tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dsfn.billing.entry import Entry, interval_of, reservation_of, usage_of
from dsfn.billing.interval import Interval
from dsfn.billing.ledger import DeviceTime, RecentCall, UsageSum
from dsfn.billing.periods import DAY_US
from dsfn.billing.reservation import Reservation
from dsfn.billing.usage import Usage

Bindings = Mapping[str, int | str]


class LedgerReads(ABC):
    """The reading half of `Ledger`. Its methods may run in any thread, beside posts."""

    @abstractmethod
    def _rows(self, query: str, bindings: Bindings) -> list[Any]:
        """The rows of a query of sql/ledger.sql that gives few."""

    @abstractmethod
    def _entries(self, query: str, bindings: Bindings) -> Iterator[Entry]:
        """The entries of a query, in little memory, as of the moment when the first is asked
        for."""

    def usage(self, invocation_id: str) -> Usage | None:
        """The row of one invocation."""
        return next(self._usage("select_call", {"id": invocation_id}), None)

    def between(self, start_us: int, end_us: int) -> Iterator[Usage]:
        """The rows of calls that started in [start_us, end_us), by their start."""
        return self._usage("select_between", {"start_us": start_us, "end_us": end_us})

    def usage_of_run(self, run: str) -> Iterator[Usage]:
        """The rows of all calls of a run, by their start."""
        return self._usage("select_run", {"run": run})

    def crossing(self, start_us: int, end_us: int) -> Iterator[Usage]:
        """The rows of calls that have a part in [start_us, end_us) and do not lie in it whole,
        or not in one day."""
        return self._usage("select_crossing", {"start_us": start_us, "end_us": end_us})

    def intervals(self, start_us: int, end_us: int) -> Iterator[Interval]:
        """The intervals that started in [start_us, end_us), by their start."""
        bounds = {"start_us": start_us, "end_us": end_us}
        return map(interval_of, self._entries("select_intervals", bounds))

    def sums(self, start_us: int, end_us: int) -> list[UsageSum]:
        """The rows of calls that lie in [start_us, end_us) and in one day, UTC, added up; the
        others that have a part in it are `crossing`."""
        found = self._rows("sum_whole", _bounds(start_us, end_us))
        return [UsageSum(*values) for values in found]

    def paddings(
        self, start_us: int, end_us: int, device_class: str, basis: str, increment_us: int
    ) -> list[UsageSum]:
        """Of the rows of `sums` on one device class: what is added when the time of each, by
        `basis`, is rounded up to a multiple of `increment_us`. All else is 0."""
        bindings: dict[str, int | str] = {
            "start_us": start_us,
            "end_us": end_us,
            "device_class": device_class,
            "basis": basis,
            "increment_us": increment_us,
        }
        return [UsageSum(*values) for values in self._rows("sum_padding", bindings)]

    def device_times(self, start_us: int, end_us: int) -> list[DeviceTime]:
        """For each device class, by name, the time in [start_us, end_us) that its devices were
        held, and what for. A lease that is open counts as held what its rows come to."""
        times: dict[str, dict[str, int]] = {}
        for device_class, kind, time_us in self._rows("sum_devices", _bounds(start_us, end_us)):
            times.setdefault(device_class, {})[kind] = time_us
        return [
            DeviceTime(name, sum(kinds.values()), *map(kinds.get, _KINDS, [0] * len(_KINDS)))
            for name, kinds in sorted(times.items())
        ]

    def recent(self, functions: Iterable[str], limit: int) -> dict[str, list[RecentCall]]:
        """The last calls of each function that ran and were not called off, newest first, at most
        `limit` of each."""
        return {
            function: [
                RecentCall(*found)
                for found in self._rows("select_recent", {"function": function, "limit": limit})
            ]
            for function in functions
        }

    def balance(self, account: str, commodity: str) -> int:
        """What an account has: all that was debited to it less all that was credited."""
        found = self._rows("select_balance", {"account": account, "commodity": commodity})
        return int(found[0][0]) if found else 0

    def reservations_open(self, tenant: str) -> list[Reservation]:
        """The reservations of a tenant that are neither posted nor void, the oldest first."""
        return [
            reservation_of(e) for e in self._entries("select_open_reservations", {"tenant": tenant})
        ]

    def _usage(self, query: str, bindings: Bindings) -> Iterator[Usage]:
        return map(usage_of, self._entries(query, bindings))


_KINDS = ("usage", "restore", "idle")


def _bounds(start_us: int, end_us: int) -> dict[str, int | str]:
    """A stretch of time, and the days that lie in it whole: [first_day, last_day)."""
    first_day, last_day = -(-start_us // DAY_US), end_us // DAY_US
    if first_day >= last_day:
        # All of it is edges: from the start up to the end, and from the end on nothing.
        first_day = last_day = max(first_day, last_day)
    return {
        "start_us": start_us,
        "end_us": end_us,
        "first_day": first_day,
        "last_day": last_day,
    }
