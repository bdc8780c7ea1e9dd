"""A pod that ends sees its last rows through, also those that are on their way by then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from dsfn.billing.interval import Interval
from dsfn.billing.posting_document import Measured
from dsfn.functions.errors import Conflict, StoreUnavailable
from dsfn.knative.pod.usage import SentUsage
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.leases.leases import Leases

ROW = Interval("idle", "l/1", "l", "cpu", 1, "cpu", "f", "r", "", 0, 5, "idle")
PATIENCE_S = 10.0


class FailingOnce:
    """`Books` that do not take the first rows, once they are told so."""

    def __init__(self) -> None:
        self.asked, self.fails = asyncio.Event(), asyncio.Event()
        self.taken: list[Measured] = []

    async def post(self, rows: Sequence[Measured]) -> dict[int, Conflict]:
        if not self.asked.is_set():
            self.asked.set()
            await self.fails.wait()
            raise StoreUnavailable("It is away.", reason="away", retry_after_s=1)
        self.taken += rows
        return {}

    async def has(self, invocation_id: str) -> bool:
        return False

    async def stay(self) -> None:
        await asyncio.Event().wait()


def test_rows_that_come_back_while_a_pod_ends_are_sent_again() -> None:
    async def run() -> None:
        books = FailingOnce()
        leases = Leases(SystemClock(), lambda _: "l", lambda _: "cpu")
        usage = SentUsage(books, leases, PATIENCE_S)
        usage.start()
        leases.rows.append(ROW)
        leases.waiting()
        async with asyncio.timeout(PATIENCE_S):
            await books.asked.wait()
            closing = asyncio.create_task(usage.close())
            assert not (await asyncio.wait([closing], timeout=0.2))[0]
            books.fails.set()
            await closing
        assert books.taken == [ROW]

    asyncio.run(run())
