"""Closes months, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import field
from functools import partial

from dsfn.billing.issued import ClosedMonth, Issued
from dsfn.billing.months import Months
from dsfn.functions.values import dataclass
from dsfn.runtime.clock import Clock
from dsfn.runtime.writer import Writer


@dataclass(frozen=True, slots=True)
class Closer:
    """Closes months while calls go on: `flush` has the ledger know all that was used until now."""

    months: Months
    writer: Writer
    clock: Clock
    flush: Callable[[], Awaitable[None]]
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def close(self, month: str) -> tuple[ClosedMonth, list[Issued]]:
        """The month, closed now or before, and its invoices.

        Raises `UsageError`, `Conflict` for one that is not over or not the next, `StorageFull`.
        """
        async with self._one:
            await self.flush()
            now_us, run = self.clock.now_us(), self.writer.run
            if await run(partial(self.months.start_closing, month, now_us)):
                issue = await asyncio.to_thread(self.months.prepare, month, now_us)
                await run(partial(self.months.issue, issue))
        return await asyncio.to_thread(self.months.closed, month)
