"""Rows of calls from the moment that they come up until it is known what became of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import field

from dsfn.billing.interval import Interval
from dsfn.billing.usage import Usage
from dsfn.functions.errors import StoreUnavailable
from dsfn.functions.values import dataclass
from dsfn.runtime.leases.leases import Leases

_LOG = logging.getLogger("dsfn.meter")


@dataclass(eq=False, slots=True)
class Unposted:
    """A row that waits. `committed` is done when it is in the ledger, or will not be; `kept`:
    whoever posts it will do so again if this fails."""

    row: Usage
    committed: asyncio.Future[None]
    kept: bool


@dataclass(eq=False)
class UnpostedRows:
    """Those that wait, and the leases that hear what becomes of them.

    `doubtful`: the ledger was lost under them, and they may have got there all the same.
    """

    leases: Leases
    waiting: list[Unposted] = field(default_factory=list)
    doubtful: list[Usage] = field(default_factory=list)

    def add(self, row: Usage, kept: bool) -> Unposted:
        """Has a row wait."""
        entry = Unposted(row, asyncio.get_running_loop().create_future(), kept)
        self.waiting.append(entry)
        return entry

    def taken(self) -> list[Unposted]:
        """Those that wait, who wait no more."""
        waiting, self.waiting = self.waiting, []
        return waiting

    def succeed(self, entry: Unposted) -> None:
        """It is in the ledger."""
        self.leases.posted((entry.row,))
        if not entry.committed.done():
            entry.committed.set_result(None)

    def fail(self, entry: Unposted, error: Exception) -> None:
        """It is not, as far as we know."""
        if not entry.kept:
            if isinstance(error, StoreUnavailable):
                self.doubtful.append(entry.row)
            else:
                self.leases.lost(entry.row)
        if not entry.committed.done():
            entry.committed.set_exception(error)

    def keep(self, intervals: Sequence[Interval], error: Exception) -> None:
        """Rows of devices are posted with what comes next: every minute something does."""
        if intervals:
            _LOG.warning("The ledger cannot be written now: %s", error)
            self.leases.give_back(intervals)

    def settle(self, row: Usage, is_there: bool) -> None:
        """The ledger has said whether it has a doubtful row."""
        if is_there:
            self.leases.posted((row,))
        else:
            self.leases.lost(row)
