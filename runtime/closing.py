"""Closes months, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from dsfn.billing.issued import ClosedMonth, Issued
from dsfn.billing.months import Months
from dsfn.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Closer:
    """Closes months while calls go on: `flush` has the ledger know all that was used until now."""

    months: Months
    clock: Clock
    flush: Callable[[], None]
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def close(self, month: str) -> tuple[ClosedMonth, list[Issued]]:
        """The month, closed now or before, and its invoices.

        Raises `UsageError`, `Conflict` for one that is not over or not the next, `StorageFull`.
        """
        async with self._one:
            self.flush()
            now_us = self.clock.now_us()
            if self.months.start_closing(month, now_us):
                issue = await asyncio.to_thread(self.months.prepare, month, now_us)
                self.months.issue(issue)
        return await asyncio.to_thread(self.months.closed, month)
