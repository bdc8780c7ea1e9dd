"""Usage on its way to others: every call in the journal as a CloudEvent, at least once.

The journal is the queue. A receiver has a place in it, which moves on once the receiver has taken
what comes before; nothing is copied, no call waits, and what a receiver that is down has missed is
sent when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

import apsw

from dsfn.billing.ledger import Ledger
from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.runtime.outbox.cursors import Cursors
from dsfn.runtime.outbox.delivery import NotDelivered, deliver, open_client
from dsfn.runtime.outbox.settings import SinkSettings
from dsfn.runtime.waiting import doubled_s

if TYPE_CHECKING:
    import httpx

MAX_BATCH = 500
POLL_S = 1.0
FIRST_DELAY_S = 1.0
MAX_DELAY_S = 300.0
_LOG = logging.getLogger("dsfn.outbox")


@dataclass(eq=False)
class Sender:
    """Sends usage to one receiver, in the order of the journal.

    `pending`: rows of the journal that it has not come to yet; `failures`: requests that failed
    since the node's start.
    """

    sink: SinkSettings
    ledger: Ledger
    cursors: Cursors
    first_delay_s: float = FIRST_DELAY_S
    poll_s: float = POLL_S
    random: Callable[[], float] = random.random
    pending: int = 0
    failures: int = 0
    _failed_in_a_row: int = 0
    _batch: int = MAX_BATCH

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        async with open_client() as client:
            while True:
                await asyncio.sleep(await self._round(client))

    async def _round(self, client: httpx.AsyncClient) -> float:
        """Sends what there is; gives the time until there may be more to do."""
        try:
            for chain, head in (await asyncio.to_thread(self.ledger.heads)).items():
                await self._send(client, chain, head)
        except NotDelivered as error:
            return self._delay_s(error)
        except (DsfnError, apsw.Error) as error:
            # One of our own databases cannot be used now. What was sent may be sent again.
            return self._delay_s(NotDelivered(str(error)))
        return self.poll_s

    async def _send(self, client: httpx.AsyncClient, chain: int, head: int) -> None:
        position = self.cursors.get(self.sink.name, chain)
        while position < head:
            self.pending, limit = head - position, self._batch
            rows = await asyncio.to_thread(self.ledger.calls_in, chain, position, head, limit)
            if rows:
                await deliver(client, self.sink, [entry for _, entry in rows])
                self._succeeded()
            # With fewer than were asked for, all up to the head has been looked at.
            position = rows[-1][0] if len(rows) == limit else head
            self.cursors.advance(self.sink.name, chain, position)
        self.pending = 0

    def _succeeded(self) -> None:
        if self._failed_in_a_row:
            _LOG.info("Usage is sent to %s again.", self.sink.name)
        self._failed_in_a_row = 0
        self._batch = min(MAX_BATCH, self._batch * 2)

    def _delay_s(self, error: NotDelivered) -> float:
        """How long to wait after a failure: twice as long each time, up to half less at random."""
        if not self._failed_in_a_row:
            _LOG.warning("Usage cannot be sent to %s, and waits: %s.", self.sink.name, error)
        self.failures += 1
        if error.is_body_refused:
            # Perhaps it is too much at once; in any case the others should come as far as they can.
            self._batch = max(1, self._batch // 2)
        delay_s = doubled_s(self.first_delay_s, self._failed_in_a_row, MAX_DELAY_S)
        self._failed_in_a_row += 1
        return max(delay_s * (1 - self.random() / 2), min(error.retry_after_s, MAX_DELAY_S))


@dataclass(eq=False)
class Outbox:
    """The senders of a node, each a task of its own: a slow one holds up no other."""

    senders: Sequence[Sender]
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Goes on where the last run of the node ended."""
        self._tasks = [
            asyncio.create_task(sender.run(), name=f"outbox-{sender.sink.name}")
            for sender in self.senders
        ]

    async def close(self) -> None:
        """Stops; what is on its way is sent again by the next run of the node."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
