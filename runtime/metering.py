"""Usage rows on their way to the ledger: committed in groups, before any answer leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dsfn.billing.interval import Interval
from dsfn.billing.posting import Posting
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, DsfnError
from dsfn.runtime.leases.leases import Leases
from dsfn.runtime.unposted import Unposted, UnpostedRows

# How long the time of devices goes unwritten at most.
FLUSH_EVERY_S = 60.0
# Rows of devices are in no hurry: most find a call's commit to go with.
_SOON_S = 0.1
_LOG = logging.getLogger("dsfn.meter")


class UsageSink(Protocol):
    """Where the row of a call goes before the call is answered."""

    async def post(self, row: Usage, kept: bool = False) -> None:
        """Returns when the row is in the books. `kept`: where it could not be, its caller will
        post it again. Raises `StorageFull`, `StoreUnavailable`, `Conflict`."""

    def lost(self, row: Usage) -> None:
        """A call's row that came to be, and will not be posted: its time is the platform's."""


class Poster(Protocol):
    """Who has rows written to the ledger."""

    def post(self, rows: Sequence[Posting]) -> None:
        """Writes all of `rows` or none, as a ledger does."""

    def usage(self, invocation_id: str) -> Usage | None:
        """The row of one invocation."""


@dataclass(eq=False)
class Meter:
    """Posts the rows of calls and of devices. All rows of calls that come up in one turn of the
    event loop share one commit, so a busy node commits once for many calls and an idle one
    without delay. Rows of devices go along with them, or are posted a little later."""

    ledger: Poster
    leases: Leases
    _rows: UnpostedRows = field(init=False)
    _soon: asyncio.TimerHandle | None = None
    _ticker: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._rows = UnpostedRows(self.leases)
        self.leases.waiting = self._commit_soon

    def start(self) -> None:
        """Has the time of devices written down now and then."""
        self._ticker = asyncio.create_task(self._tick())

    async def close(self) -> None:
        """Ends all leases and writes down what there is."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        self.leases.close()
        self._commit()
        if self._soon is not None:
            self._soon.cancel()

    async def post(self, row: Usage, kept: bool = False) -> None:
        """See `UsageSink`."""
        if not self._rows.waiting:
            asyncio.get_running_loop().call_soon(self._commit)
        await self._rows.add(row, kept).committed

    def post_kept(self, rows: Sequence[Usage]) -> None:
        """Posts rows at once, all or none, that their caller will post again where they could not
        be. Raises `StorageFull`, `Conflict`."""
        self.ledger.post(rows)
        self.leases.posted(rows)

    def lost(self, row: Usage) -> None:
        """See `UsageSink`."""
        self.leases.lost(row)

    def flush(self) -> None:
        """Writes down the time of devices up to now."""
        self.leases.flush()
        self._commit()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            self.flush()

    def _commit_soon(self) -> None:
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(_SOON_S, self._commit_later)

    def _commit_later(self) -> None:
        self._soon = None
        self._commit()

    def _commit(self) -> None:
        waiting = self._rows.taken()
        intervals = self.leases.taken()
        if not waiting and not intervals:
            return
        try:
            self.ledger.post([*(entry.row for entry in waiting), *intervals])
        except Conflict:
            # One row of the group is refused: the others must not suffer for it.
            self.leases.give_back(intervals)
            for entry in waiting:
                self._commit_one(entry)
            self._commit_intervals(self.leases.taken())
        except DsfnError as error:
            self._rows.keep(intervals, error)
            for entry in waiting:
                self._rows.fail(entry, error)
        else:
            for entry in waiting:
                self._rows.succeed(entry)
            self._settle_doubtful()

    def _commit_one(self, entry: Unposted) -> None:
        try:
            self.ledger.post([entry.row])
        except DsfnError as error:
            self._rows.fail(entry, error)
        else:
            self._rows.succeed(entry)

    def _commit_intervals(self, rows: Sequence[Interval]) -> None:
        """Rows of which one may be there already, closing a lease that others have closed."""
        for number, row in enumerate(rows):
            try:
                self.ledger.post([row])
            except Conflict as error:
                _LOG.error("The ledger refuses a row of a device: %s", error.message)
            except DsfnError as error:
                self._rows.keep(rows[number:], error)
                return

    def _settle_doubtful(self) -> None:
        """The ledger was lost under some rows, which may have got there all the same. Now that it
        is back, it can say so."""
        rows, self._rows.doubtful = self._rows.doubtful, []
        for number, row in enumerate(rows):
            try:
                is_there = self.ledger.usage(row.invocation_id) is not None
            except DsfnError:
                self._rows.doubtful[:0] = rows[number:]
                return
            self._rows.settle(row, is_there)
