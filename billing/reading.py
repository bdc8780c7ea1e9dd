"""What can be read in a ledger, whichever database keeps it: the same queries, the same tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dsfn.billing import padding_sums, usage_sums
from dsfn.billing.entry import Entry, interval_of, reservation_of, usage_of
from dsfn.billing.interval import Interval
from dsfn.billing.ledger import Crossing, DeviceTime, RecentCall, UsageSum
from dsfn.billing.periods import DAY_US
from dsfn.billing.queries import Values
from dsfn.billing.rates.card import RateCard
from dsfn.billing.reservation import Reservation
from dsfn.billing.selection import FIRST_MONTH, LAST_MONTH, Selection
from dsfn.billing.usage import Usage

_KINDS = ("usage", "restore", "idle")


class LedgerReads(ABC):
    """The reading half of `Ledger`. Its methods may run in any thread, beside posts."""

    @abstractmethod
    def _read(self, query: str, values: Values) -> list[Any]:
        """The rows of a query that gives few, by its name."""

    @abstractmethod
    def stream(self, query: str, values: Values = ()) -> Iterator[Any]:
        """The rows of a query that gives many, by its name, as of the moment when the first is
        asked for."""

    def usage(self, invocation_id: str) -> Usage | None:
        """The row of one invocation."""
        found = self._read("select_call", {"id": invocation_id})
        return usage_of(_entry(found[0])) if found else None

    def between(self, start_us: int, end_us: int) -> Iterator[Usage]:
        """The rows of calls that started in [start_us, end_us), by their start."""
        return map(usage_of, self._between("select_between", start_us, end_us))

    def usage_of_run(self, run: str) -> Iterator[Usage]:
        """The rows of all calls of a run, by their start."""
        return map(usage_of, map(_entry, self.stream("select_run", {"run": run})))

    def intervals(self, start_us: int, end_us: int) -> Iterator[Interval]:
        """The intervals that started in [start_us, end_us), by their start."""
        return map(interval_of, self._between("select_intervals", start_us, end_us))

    def heads(self) -> dict[int, int]:
        """The number of the last row of each chain of the journal."""
        return {chain: seq for chain, seq, _ in self._read("select_heads", ())}

    def calls_in(self, chain: int, after: int, until: int, limit: int) -> list[tuple[int, Entry]]:
        """The rows of a chain whose numbers are in (after, until] and that are calls, or take one
        back: the first `limit` of them in their order, with their numbers."""
        wanted = {"chain": chain, "after": after, "until": until, "limit": limit}
        return [(n, _entry(values)) for n, *values in self._read("select_calls_in", wanted)]

    def sums(self, selection: Selection) -> list[UsageSum]:
        """The rows of calls that lie in a stretch of time and in one day, UTC, added up; the
        others that have a part in it are `crossing`. What was taken back counts negatively."""
        return usage_sums.sums(self._read, selection)

    def paddings(
        self, selection: Selection, card: RateCard, device_classes: Sequence[str]
    ) -> list[UsageSum]:
        """Of the rows of `sums` on some device classes: what is added when the time of each is
        rounded up to the increment of a card. All else is 0."""
        return padding_sums.paddings(self._read, selection, card, device_classes)

    def crossing(self, selection: Selection) -> Iterator[Crossing]:
        """The rows of calls that have a part in a stretch of time and do not lie in it whole,
        or not in one day."""
        return usage_sums.crossing(self.stream, selection)

    def months(self) -> list[str]:
        """The months in which something is billed, in order."""
        return [month for (month,) in self._read("select_months", ())]

    def first_service_us(self, month: str) -> int | None:
        """The first day with usage that is billed in a month, as its first instant, or None."""
        ((day,),) = self._read("select_first_day", {"month": month})
        return None if day is None else day * DAY_US

    def device_times(
        self, start_us: int, end_us: int, first: str = FIRST_MONTH, last: str = LAST_MONTH
    ) -> list[DeviceTime]:
        """For each device class, by name, the time in [start_us, end_us) that its devices were
        held, and what for, by the rows that are billed in the months from `first` to `last`. A
        lease that is open counts as held what its rows come to."""
        times: dict[str, dict[str, int]] = {}
        wanted = {**_bounds(start_us, end_us), "first": first, "last": last}
        for device_class, kind, time_us in self._read("sum_devices", wanted):
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
                for found in self._read("select_recent", {"function": function, "limit": limit})
            ]
            for function in functions
        }

    def balance(self, account: str, commodity: str) -> int:
        """What an account has: all that was debited to it less all that was credited."""
        found = self._read("select_balance", {"account": account, "commodity": commodity})
        return int(found[0][0]) if found else 0

    def reservations_open(self, tenant: str) -> list[Reservation]:
        """The reservations of a tenant that are neither posted nor void, the oldest first."""
        found = self._read("select_open_reservations", {"tenant": tenant})
        return [reservation_of(_entry(values)) for values in found]

    def checkpoints(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Checkpoints whose numbers are larger, with these, in order."""
        return self._read("select_checkpoints", {"after": after, "limit": limit})

    def _between(self, query: str, start_us: int, end_us: int) -> Iterator[Entry]:
        return map(_entry, self.stream(query, {"start_us": start_us, "end_us": end_us}))


def _entry(values: Sequence[Any]) -> Entry:
    """The entry in a row of the table: after its number and chain, before its hash."""
    return Entry._make(values[2:-1])


def _bounds(start_us: int, end_us: int) -> dict[str, int]:
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
