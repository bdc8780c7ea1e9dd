"""Usage rows on their way to the books: accepted there before any answer leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Protocol

from dsfn.billing.interval import Interval
from dsfn.billing.posting_document import Measured
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, StoreUnavailable
from dsfn.functions.values import dataclass
from dsfn.knative.handover import DOOR_PATIENCE_S
from dsfn.knative.pod.control import RETRY_AFTER_S
from dsfn.knative.pod.http import TIMEOUT_S
from dsfn.runtime.leases.leases import Leases
from dsfn.runtime.unposted import Unposted, UnpostedRows

FLUSH_EVERY_S = 60.0
MAX_ROWS = 500
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 2.0
# How long a call waits for its row to be accepted, and a pod that ends for its last ones. By the
# agent of the node, which is back in seconds:
AGENT_PATIENCE_S = 20.0
# By the control service: for as long as a connection to it waits for the next leader, and after
# that for one more request, which may just have been put off. It is less than Knative waits for an
# answer beyond a function's `timeout`.
CONTROL_PATIENCE_S = DOOR_PATIENCE_S + MAX_PAUSE_S + TIMEOUT_S
# Rows of devices are in no hurry: several go together.
_SOON_S = 0.1
_LOG = logging.getLogger("dsfn.pod")


class Reservations(Protocol):
    """Where a pod's end under a call is seen. What cannot be asked raises `StoreUnavailable`."""

    async def reserve(self, row: Usage) -> None:
        """A call is about to run, and `row` is what comes of it if this pod ends under it."""

    async def release(self, call: str) -> None:
        """A call that was reserved for leaves no row."""


class Books(Protocol):
    """Where rows of a pod go: the control service, or before it the agent of the node. What cannot
    be asked raises `StoreUnavailable`."""

    async def post(self, rows: Sequence[Measured]) -> dict[int, Conflict]:
        """Returns when all rows are accepted but those that are refused, by their index. The same
        rows may be posted again."""

    async def has(self, invocation_id: str) -> bool:
        """Whether the row of a call is accepted."""

    async def stay(self) -> None:
        """Shows that this pod lives, where somebody needs to know, until it is cancelled."""


@dataclass(eq=False)
class SentUsage:
    """`UsageSink` to books elsewhere. While a request is under way the rows that come up wait for
    the next; what fails is sent again, since a row that comes twice is one. Calls do not wait for
    rows of devices: these go beside.

    `patience_s`: how long a call waits for its row to be accepted. `reservations`: None
    where nobody sees this pod end."""

    books: Books
    leases: Leases
    patience_s: float
    reservations: Reservations | None = None
    _rows: UnpostedRows = field(init=False)
    _reserved: set[str] = field(default_factory=set)
    _released: list[str] = field(default_factory=list)
    _sender: asyncio.Task[None] | None = None
    _device_sender: asyncio.Task[None] | None = None
    _soon: asyncio.TimerHandle | None = None
    _ticker: asyncio.Task[None] | None = None
    _staying: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._rows = UnpostedRows(self.leases)
        self.leases.waiting = self._send_soon

    def start(self) -> None:
        """Has the time of devices sent now and then."""
        self._ticker = asyncio.create_task(self._tick())
        self._staying = asyncio.create_task(self.books.stay())

    async def close(self) -> None:
        """Ends all leases and sends what there is, for as long as a call would wait for that."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        self.leases.close()
        if self._soon is not None:
            self._soon.cancel()
        try:
            async with asyncio.timeout(self.patience_s):
                await self._send_rest()
        except TimeoutError:
            _LOG.error("%d rows of devices are lost.", len(self.leases.rows))
        if self._staying is not None:
            self._staying.cancel()
            await asyncio.gather(self._staying, return_exceptions=True)

    async def reserve(self, begun: Callable[[], Usage]) -> None:
        """See `UsageSink`. Tries for as long as a call would wait for its row."""
        if self.reservations is None:
            return
        row, pause_s = begun(), FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        ends_at_s = loop.time() + self.patience_s
        self._reserved.add(row.invocation_id)
        while True:
            try:
                return await self.reservations.reserve(row)
            except StoreUnavailable as error:
                if error.fields["reason"] == "full" or loop.time() + pause_s > ends_at_s:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)

    def release(self, call: str) -> None:
        """A call is over. Where its row was not accepted, it is not reserved for any more."""
        if call in self._reserved:
            self._reserved.remove(call)
            self._released.append(call)
            self._send_devices()

    async def post(self, row: Usage, kept: bool = False) -> None:
        """See `UsageSink`. Raises `StoreUnavailable` when the row is not accepted in time.

        A success that another pod has had already under the same idempotency key is on the books
        as that: what it took here is the platform's, and the answer as good.
        """
        entry = self._rows.add(row, kept)
        timer = asyncio.get_running_loop().call_later(self.patience_s, _give_up, entry)
        self._send()
        try:
            await asyncio.shield(entry.committed)
        except Conflict:
            if not row.idempotency_key:
                raise
        finally:
            timer.cancel()

    def lost(self, row: Usage) -> None:
        """See `UsageSink`."""
        self.leases.lost(row)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            self.leases.flush()
            self._send_devices()

    async def _send_rest(self) -> None:
        # First of all: what is on its way may yet come back.
        await asyncio.gather(self._send(), self._send_devices())
        while self._rows.waiting or self._rows.doubtful or self.leases.rows or self._released:
            await asyncio.sleep(FIRST_PAUSE_S)
            await asyncio.gather(self._send(), self._send_devices())

    def _send_soon(self) -> None:
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(_SOON_S, self._send_later)

    def _send_later(self) -> None:
        self._soon = None
        self._send_devices()

    def _send(self) -> asyncio.Task[None]:
        """Has the rows of calls be sent."""
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())
        return self._sender

    def _send_devices(self) -> asyncio.Task[None]:
        """Has the rows of devices be sent, beside those of calls."""
        if self._device_sender is None or self._device_sender.done():
            self._device_sender = asyncio.create_task(self._send_all_of_devices())
        return self._device_sender

    async def _send_all(self) -> None:
        """Goes on until no call waits."""
        pause_s = FIRST_PAUSE_S
        while self._rows.waiting:
            entries = self._rows.taken()
            self._rows.waiting = entries[MAX_ROWS:]
            try:
                await self._send_calls(entries[:MAX_ROWS])
                pause_s = FIRST_PAUSE_S
            except StoreUnavailable:
                self._rows.waiting[:0] = entries[:MAX_ROWS]
                await asyncio.sleep(pause_s)
                pause_s = min(MAX_PAUSE_S, 2 * pause_s)
                self._drop_given_up()
        if self._rows.doubtful:
            self._send_devices()

    async def _send_calls(self, entries: Sequence[Unposted]) -> None:
        refused = await self.books.post([entry.row for entry in entries])
        for number, entry in enumerate(entries):
            if number in refused:
                entry.kept = False  # it will never be taken
                self._rows.fail(entry, refused[number])
            else:
                self._reserved.discard(entry.row.invocation_id)
                self._rows.succeed(entry)

    def _drop_given_up(self) -> None:
        """Sends no more what calls were told is not sent. It may have got there all the same."""
        for entry in self._rows.taken():
            if entry.committed.done():
                self._rows.fail(entry, _not_in_time())
            else:
                self._rows.waiting.append(entry)

    async def _send_all_of_devices(self) -> None:
        """Sends the rows of devices, and asks for rows of which nobody knows where they are."""
        try:
            await self._release()
            while rows := self.leases.taken():
                self.leases.give_back(rows[MAX_ROWS:])
                await self._send_intervals(rows[:MAX_ROWS])
            while self._rows.doubtful:
                row = self._rows.doubtful[0]
                is_there = await self.books.has(row.invocation_id)
                self._rows.settle(self._rows.doubtful.pop(0), is_there)
        except StoreUnavailable:
            return  # they are sent with the next ones, in a minute at the latest

    async def _release(self) -> None:
        while self.reservations is not None and self._released:
            await self.reservations.release(self._released[0])
            self._released.pop(0)

    async def _send_intervals(self, rows: Sequence[Interval]) -> None:
        try:
            refused = await self.books.post(rows)
        except StoreUnavailable as error:
            self._rows.keep(rows, error)
            raise
        for refusal in refused.values():
            _LOG.error("The ledger refuses a row of a device: %s", refusal.message)


def _give_up(entry: Unposted) -> None:
    if not entry.committed.done():
        entry.committed.set_exception(_not_in_time())


def _not_in_time() -> StoreUnavailable:
    return StoreUnavailable(
        "The call has run, but its usage could not be written down in time.",
        reason="timeout",
        retry_after_s=RETRY_AFTER_S,
    )
