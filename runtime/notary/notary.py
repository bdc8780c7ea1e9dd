"""The tasks of a node that sign its ledger, watch over it, and add up what reports ask for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from dsfn.billing.audit import Audit
from dsfn.billing.evidence import Place
from dsfn.billing.ledger import Ledger
from dsfn.billing.signing import SigningKey
from dsfn.functions.errors import DsfnError
from dsfn.runtime.clock import Clock
from dsfn.runtime.notary.depositor import Depositor, Progress
from dsfn.runtime.writer import Writer

# A checkpoint is signed when so many rows have come, or the first of them so long ago.
MAX_UNSIGNED_ROWS = 10_000
MAX_UNSIGNED_S = 60.0
EVERY_S = 1.0
# Small portions with pauses: calls that are answered meanwhile must not notice.
AUDIT_ROWS = 100
AUDIT_PAUSE_S = 0.02
BUILD_ROWS = 200
BUILD_PAUSE_S = 0.01
CLOSE_TIMEOUT_S = 5.0
_PROGRESS_FILE = "checkpoints.json"
_LOG = logging.getLogger("dsfn.ledger")


class Notary:
    """Signs checkpoints, has them brought elsewhere, checks the rows that come, and has what rate
    cards round up added up for rows that were there before the cards."""

    def __init__(
        self,
        writer: Writer,
        ledger: Ledger,
        key: SigningKey,
        places: Sequence[Place],
        clock: Clock,
        data_dir: Path,
    ) -> None:
        self.problems = 0
        self._writer = writer
        self._ledger = ledger
        self._key = key
        self._clock = clock
        progress = Progress(data_dir / _PROGRESS_FILE)
        self._depositors = [Depositor(place, ledger.checkpoints, progress) for place in places]
        self._audit: Audit | None = None
        self._unsigned_since_ns: int | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins. Raises `UsageError` when another key signed the ledger's checkpoints."""
        self.sign()
        for depositor in self._depositors:
            depositor.start()
        self._tasks = [
            asyncio.create_task(self._signing(), name="ledger-signing"),
            asyncio.create_task(self._auditing(), name="ledger-audit"),
            asyncio.create_task(self._building(), name="ledger-paddings"),
        ]

    async def close(self) -> None:
        """Signs what has come, and gives the places a moment to take it."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._signed(self.sign)
        closing = [
            asyncio.to_thread(depositor.close, CLOSE_TIMEOUT_S) for depositor in self._depositors
        ]
        await asyncio.gather(*closing)

    async def _signing(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self._signed(self._sign_if_due)

    async def _signed(self, sign: Callable[[], None]) -> None:
        try:
            await self._writer.run(sign)
        except DsfnError as error:
            _LOG.warning("The ledger could not be signed: %s", error.message)

    def _sign_if_due(self) -> None:
        if self._is_due():
            self.sign()

    def _is_due(self) -> bool:
        rows, now_ns = self._ledger.unsigned_rows, self._clock.monotonic_ns()
        if rows == 0:
            self._unsigned_since_ns = None
            return False
        since_ns = self._unsigned_since_ns = self._unsigned_since_ns or now_ns
        return rows >= MAX_UNSIGNED_ROWS or now_ns - since_ns >= MAX_UNSIGNED_S * 1e9

    def sign(self) -> None:
        """Signs what has come, and has that brought elsewhere: work for the writer. Raises
        `StorageFull`."""
        if self._ledger.checkpoint(self._key, self._clock.now_us()) is not None:
            for depositor in self._depositors:
                depositor.wake()
        self._unsigned_since_ns = None

    async def _auditing(self) -> None:
        while True:
            try:
                rows = await asyncio.to_thread(self._look)
            except DsfnError as error:
                _LOG.warning("The ledger could not be checked: %s", error.message)
                rows = 0
            await asyncio.sleep(AUDIT_PAUSE_S if rows >= AUDIT_ROWS else EVERY_S)

    def _look(self) -> int:
        if self._audit is None:
            self._audit = Audit(self._ledger.books())
        rows, problems = self._audit.step(AUDIT_ROWS)
        for problem in problems:
            self.problems += 1
            _LOG.error("The ledger is not what was posted: %s", problem.detail)
        return rows

    async def _building(self) -> None:
        while True:
            rows = 0
            try:
                rows = await self._writer.run(self._build)
            except DsfnError as error:
                _LOG.warning("What is rounded up could not be added up: %s", error.message)
            await asyncio.sleep(BUILD_PAUSE_S if rows else EVERY_S)

    def _build(self) -> int:
        return self._ledger.build_paddings(BUILD_ROWS)
