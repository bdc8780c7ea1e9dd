"""Usage rows on their way to the ledger: durable in groups, before any answer leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import field
from functools import partial
from typing import Protocol

from dsfn.billing.interval import Interval
from dsfn.billing.posting import Posting
from dsfn.billing.posting_document import Spooled
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, DsfnError
from dsfn.functions.values import dataclass
from dsfn.runtime.leases.leases import Leases
from dsfn.runtime.unposted import Unposted, UnpostedRows
from dsfn.runtime.writer import Bundle, Write, Writer, alone, post_apart, tried

# How long the time of devices goes unwritten at most.
FLUSH_EVERY_S = 60.0
# Rows of devices are in no hurry: most find a call's commit to go with.
_SOON_S = 0.1
_LOG = logging.getLogger("dsfn.meter")


class UsageSink(Protocol):
    """Where the row of a call goes before the call is answered."""

    async def reserve(self, begun: Callable[[], Usage]) -> None:
        """Before a call runs: returns when it is sure that it will leave a row, `begun()` with the
        time that it took, should this process end under it. Raises `StoreUnavailable`."""

    async def post(self, row: Usage, kept: bool = False) -> None:
        """Returns when the row is in the books. `kept`: where it could not be, its caller will
        post it again. Raises `StorageFull`, `StoreUnavailable`, `Conflict`."""

    def lost(self, row: Usage) -> None:
        """A call's row that came to be, and will not be posted: its time is the platform's."""


class Books(Protocol):
    """The ledger, as far as rows of calls are posted to it."""

    def post(self, rows: Sequence[Posting]) -> None:
        """Writes all of `rows` or none."""

    def usage(self, invocation_id: str) -> Usage | None:
        """The row of one invocation."""


class Settler(Protocol):
    """Who has set money aside for calls."""

    def bundle(self, usage: Usage) -> Bundle:
        """A call's row, with what settles what was set aside for it."""

    def settled(self, usage: Usage, error: Exception | None) -> None:
        """These are in the ledger, or, with an `error`, may not be."""


@dataclass(frozen=True, slots=True)
class _Group:
    """What is written in one go. `flushed`: who waits for that."""

    entries: Sequence[Unposted]
    intervals: Sequence[Interval]
    flushed: Sequence[asyncio.Future[None]]

    @property
    def is_asked(self) -> bool:
        """Whether the ledger has to say if a call was the first to succeed under its key."""
        return any(entry.row.idempotency_key for entry in self.entries)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a group: of each call's row, and which rows of devices were `left`, and why."""

    calls: Sequence[Exception | None]
    left: Sequence[Interval] = ()
    error: Exception | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the ledger takes rows, if not these."""
        return isinstance(self.error, Conflict)


@dataclass(eq=False)
class Meter:
    """Posts the rows of calls and of devices. All rows of calls that come up in one turn of the
    event loop, or while others are written, share one write, so a busy node writes once for many
    calls and an idle one without delay. Rows of devices go along with them, or are posted a little
    later.

    `post_soon` makes rows durable before the ledger has them; `ledger` has a word with those that
    it may refuse.
    """

    writer: Writer
    ledger: Books
    post_soon: Write
    budgets: Settler
    leases: Leases
    _rows: UnpostedRows = field(init=False)
    _flushes: list[asyncio.Future[None]] = field(default_factory=list)
    _is_writing: bool = False
    _is_asked: bool = False
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
        await self._written()
        if self._soon is not None:
            self._soon.cancel()

    async def reserve(self, begun: Callable[[], Usage]) -> None:
        """See `UsageSink`: the time of a node that was killed is found at its next start, by its
        leases."""

    async def post(self, row: Usage, kept: bool = False) -> None:
        """See `UsageSink`."""
        if not self._rows.waiting:
            asyncio.get_running_loop().call_soon(self._commit)
        await self._rows.add(row, kept).committed

    def post_kept(
        self,
        rows: Sequence[Usage | Interval],
        done: Callable[[Sequence[Exception | None]], None],
    ) -> None:
        """Posts rows at once that their caller will post again where they could not be; `done`
        gets what came of each."""

        def tell(errors: Sequence[Exception | None]) -> None:
            for row, error in zip(rows, errors, strict=True):
                if isinstance(row, Usage):
                    self.budgets.settled(row, error)
                    self.leases.posted(() if error else (row,))
            done(errors)

        bundles = [self._bundle(row) for row in rows]
        self.writer.submit(partial(post_apart, self.ledger.post, bundles), tell)

    def lost(self, row: Usage) -> None:
        """See `UsageSink`."""
        self.leases.lost(row)

    def flush(self) -> asyncio.Future[None]:
        """Writes down the time of devices up to now; done when that is in the ledger, if it can
        be written."""
        self.leases.flush()
        return self._written()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush()

    def _bundle(self, row: Usage | Interval) -> Bundle:
        return self.budgets.bundle(row) if isinstance(row, Usage) else alone(row)

    def _written(self) -> asyncio.Future[None]:
        """Writes what there is; done when that was tried."""
        flushed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flushes.append(flushed)
        self._commit()
        return flushed

    def _commit_soon(self) -> None:
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(_SOON_S, self._commit_later)

    def _commit_later(self) -> None:
        self._soon = None
        self._commit()

    def _commit(self) -> None:
        if self._is_writing:
            self._is_asked = True
            return
        group = _Group(self._rows.taken(), self.leases.taken(), self._flushes)
        self._flushes, self._is_asked = [], False
        if not group.entries and not group.intervals:
            _finish(group.flushed)
            return
        self._is_writing = True
        bundles = [self.budgets.bundle(entry.row) for entry in group.entries]
        post = self.ledger.post if group.is_asked else self.post_soon
        work = partial(_post, post, bundles, group.intervals)
        self.writer.submit(work, partial(self._committed, group))

    def _committed(self, group: _Group, outcome: _Outcome) -> None:
        self._is_writing = False
        if outcome.is_refused:
            self.leases.give_back(outcome.left)
        elif outcome.error is not None:
            self._rows.keep(outcome.left, outcome.error)
        for entry, error in zip(group.entries, outcome.calls, strict=True):
            self.budgets.settled(entry.row, error)
            if error is None:
                self._rows.succeed(entry)
            else:
                self._rows.fail(entry, error)
        _finish(group.flushed)
        if outcome.error is None:
            self._settle_doubtful()
        if self._is_asked or (outcome.left and outcome.is_refused):
            self._commit()

    def _settle_doubtful(self) -> None:
        """The ledger was lost under some rows, which may have got there all the same. Now that it
        is back, it can say so."""
        rows, self._rows.doubtful = self._rows.doubtful, []
        if rows:
            self.writer.submit(partial(_found, self.ledger, rows), partial(self._settle, rows))

    def _settle(self, rows: Sequence[Usage], found: Sequence[bool]) -> None:
        for row, is_there in zip(rows, found, strict=False):
            self._rows.settle(row, is_there)
        self._rows.doubtful[:0] = rows[len(found) :]


def _post(post: Write, calls: Sequence[Bundle], intervals: Sequence[Interval]) -> _Outcome:
    """Writes a group. A row that is refused does not take the others with it. Rows of devices are
    left then: what a call that is refused has paid of a restore, they say first."""
    bundles = [bundle() for bundle in calls]
    rows: list[Spooled] = [row for bundle in bundles for row in bundle]
    error = tried(post, [*rows, *intervals])
    if not isinstance(error, Conflict):
        return _Outcome([error] * len(bundles), intervals if error else (), error)
    if bundles:
        return _Outcome([tried(post, bundle) for bundle in bundles], intervals, error)
    return _post_alone(post, intervals)


def _post_alone(post: Write, intervals: Sequence[Interval]) -> _Outcome:
    """Rows of which one may be there already, closing a lease that others have closed."""
    for number, interval in enumerate(intervals):
        error = tried(post, [interval])
        if isinstance(error, Conflict):
            _LOG.error("The ledger refuses a row of a device: %s", error.message)
        elif error is not None:
            return _Outcome((), intervals[number:], error)
    return _Outcome(())


def _found(ledger: Books, rows: Sequence[Usage]) -> list[bool]:
    """Of each row whether the ledger has it, as far as it can say."""
    found: list[bool] = []
    for row in rows:
        try:
            found.append(ledger.usage(row.invocation_id) is not None)
        except DsfnError:
            break
    return found


def _finish(flushed: Sequence[asyncio.Future[None]]) -> None:
    for each in flushed:
        if not each.done():
            each.set_result(None)
