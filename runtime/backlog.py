"""Has the ledger follow its spool: rows are posted in groups, behind the answers of their calls."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import field

from dsfn.billing.spooled_ledger import SHARE_ROWS, SpooledLedger
from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.runtime.writer import Writer

# How long a row waits for others to share its commit.
AFTER_S = 0.02
# After a commit that failed: twice as long each time.
RETRY_AFTER_S = 1.0
MAX_RETRY_AFTER_S = 30.0
_LOG = logging.getLogger("dsfn.ledger")


@dataclass(eq=False)
class Backlog:
    """Posts the rows that wait, share by share: calls are answered in between.

    `writer` does nothing else where a commit may take long: rows come to the spool meanwhile.
    """

    ledger: SpooledLedger
    writer: Writer
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _timer: asyncio.TimerHandle | None = None
    _is_due: bool = False  # rows are being posted, or will be
    _failures: int = 0

    def start(self) -> None:
        """Begins, in the event loop's thread."""
        self._loop = asyncio.get_running_loop()
        self.ledger.waiting = self._notice

    async def close(self) -> None:
        """Posts what waits, if it can be."""
        self.ledger.waiting = lambda: None
        if self._timer is not None:
            self._timer.cancel()
        await self.writer.run(self._drain)
        await self.writer.close()

    def _notice(self) -> None:
        """Rows wait. Called for each write to the spool, in the thread that writes."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon_threadsafe(self._post_in, AFTER_S)

    def _post_in(self, after_s: float) -> None:
        self._timer = self._loop.call_later(after_s, self._post)

    def _post(self) -> None:
        self.writer.submit(self._tried, self._go_on)

    def _tried(self) -> Exception | None:
        try:
            self.ledger.post_share()
        except Exception as error:  # noqa: BLE001
            # The rows are where they were, and are tried again.
            with suppress(DsfnError):
                self.ledger.sync()
            return error
        return None

    def _go_on(self, error: Exception | None) -> None:
        if error is not None:
            _LOG.warning("%d rows wait for the ledger: %s", self.ledger.rows_waiting, error)
            self._post_in(min(RETRY_AFTER_S * 2**self._failures, MAX_RETRY_AFTER_S))
            self._failures += 1
            return
        self._failures, self._is_due = 0, False
        if self.ledger.rows_waiting:
            # Those that came meanwhile; or more than one share had waited.
            self._is_due = True
            self._post_in(AFTER_S if self.ledger.rows_waiting < SHARE_ROWS else 0.0)

    def _drain(self) -> None:
        # What cannot be posted is told when the ledger is closed.
        with suppress(DsfnError):
            self.ledger.drain()
