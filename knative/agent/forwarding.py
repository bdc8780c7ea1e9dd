"""Rows on their way from the outbox to the control service, until it has them all."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import field

from dsfn.functions.errors import Conflict, StoreUnavailable
from dsfn.functions.values import dataclass
from dsfn.knative.agent.committing import Committer
from dsfn.knative.agent.outbox import Outbox, Waiting
from dsfn.knative.pod.control import Control
from dsfn.runtime.waiting import doubled_s, wait_within

MAX_BATCH = 500
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 30.0
# Rows that nobody has told of, such as those of an earlier run, are looked for so often.
LOOK_S = 1.0
_LOG = logging.getLogger("dsfn.agent")


@dataclass(eq=False)
class Forwarder:
    """Sends rows in the order in which they came, and forgets them once they are in the ledger:
    between the two they may be sent twice, which makes one row."""

    committer: Committer
    control: Control
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _failures: int = 0

    def hurry(self) -> None:
        """There are rows."""
        self._more.set()

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            self._more.clear()
            try:
                while await self._send_some():
                    pass
            except StoreUnavailable as error:
                await asyncio.sleep(self._pause_s(error))
                continue
            await wait_within(self._more, LOOK_S)

    async def drain(self) -> None:
        """Sends what there is, as far as the control service takes it at once."""
        try:
            while await self._send_some():
                pass
        except StoreUnavailable:
            return

    async def _send_some(self) -> bool:
        rows = await self.committer.do(lambda outbox: outbox.first(MAX_BATCH))
        if not rows:
            return False
        refused = await self.control.post([each.row for each in rows])
        self._succeeded()
        _tell_of(rows, refused)

        def forget(outbox: Outbox) -> None:
            outbox.forget(rows, refused.keys())

        await self.committer.do(forget)
        return True

    def _succeeded(self) -> None:
        if self._failures:
            _LOG.warning("The control service takes usage again.")
        self._failures = 0

    def _pause_s(self, error: StoreUnavailable) -> float:
        """Twice as long each time, up to half less at random."""
        if not self._failures:
            _LOG.warning("Usage waits on the disk: %s", error.message)
        pause_s = doubled_s(FIRST_PAUSE_S, self._failures, MAX_PAUSE_S)
        self._failures += 1
        return pause_s * (1 - random.random() / 2)


def _tell_of(rows: Sequence[Waiting], refused: dict[int, Conflict]) -> None:
    for number, error in refused.items():
        _LOG.warning("The ledger refuses row %d: %s", rows[number].number, error.message)
