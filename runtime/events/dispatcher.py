"""The dispatcher: the task that takes deliveries from the queue and has them called."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import apsw

from dsfn.functions.errors import DsfnError, RequestError, StorageFull, Unavailable
from dsfn.functions.values import dataclass
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.clock import Clock
from dsfn.runtime.events.delivery import Delivery, DeliveryKind
from dsfn.runtime.events.outcomes import Outcomes
from dsfn.runtime.events.queue import Queue
from dsfn.runtime.events.stored import load_body
from dsfn.runtime.model import Answer, Call
from dsfn.runtime.waiting import wait_within

PER_FUNCTION = 16
TOTAL = 64
CLOSE_GRACE_S = 10.0
_POLL_S = 0.25
_PAUSE_S = 1.0
_SWEEP_EVERY_US = 30_000_000
_LOG = logging.getLogger("dsfn.events")

Invoke = Callable[[Call], Awaitable[Answer]]
StartRun = Callable[[Delivery, bytes], Awaitable[Answer]]


@dataclass(eq=False)
class Dispatcher:
    """Runs deliveries, up to `per_function` at once for each function or workflow and `total` in
    all. `start_run` has an event start a run and answers once it will survive.

    They take turns, so that a slow or failing one holds up nobody but itself.
    `sweeps` are done now and then; each drops a bounded number of old rows and
    gives their number.
    """

    queue: Queue
    outcomes: Outcomes
    blobs: BlobStore
    invoke: Invoke
    start_run: StartRun
    clock: Clock
    sweeps: Sequence[Callable[[], int]] = ()
    per_function: int = PER_FUNCTION
    total: int = TOTAL

    def __post_init__(self) -> None:
        self._running: dict[str, asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
        self._last = ""
        self._swept_at_us = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Takes up what the last run of the node left, and begins."""
        self.queue.recover()
        self._task = asyncio.create_task(self._run(), name="dispatcher")

    def wake(self) -> None:
        """Has the queue looked at now."""
        self.queue.arrived.set()

    async def close(self, grace_s: float = CLOSE_GRACE_S) -> None:
        """Takes nothing new and gives what runs `grace_s` to end; the rest is queued again."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None
        running = list(self._running.values())
        if running:
            await asyncio.wait(running, timeout=grace_s)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self.queue.arrived.clear()
            try:
                self._hand_out()
                self._sweep()
            except (StorageFull, apsw.Error) as error:
                # Nothing was changed; what waits goes on waiting.
                _LOG.warning("The queue cannot be written now: %s", error)
                await asyncio.sleep(_PAUSE_S)
            await wait_within(self.queue.arrived, _POLL_S)

    def _hand_out(self) -> None:
        """Begins as many due deliveries as fit, one of each function in turn."""
        handed_out = True
        while handed_out:
            handed_out = False
            for function in self._turns():
                if len(self._running) >= self.total:
                    return
                delivery = self.queue.claim(function)
                if delivery is not None:
                    self._begin(delivery)
                    handed_out = True

    def _turns(self) -> list[str]:
        """The functions with something due and room to run it, those after the last one first."""
        ready = [f for f in self.queue.due_functions() if self._busy[f] < self.per_function]
        return [f for f in ready if f > self._last] + [f for f in ready if f <= self._last]

    def _begin(self, delivery: Delivery) -> None:
        function = delivery.function
        self._last = function
        self._busy[function] += 1
        task = asyncio.create_task(self._deliver(delivery), name=f"delivery-{delivery.id}")
        self._running[delivery.id] = task

        def ended(task: asyncio.Task[None]) -> None:
            del self._running[delivery.id]
            self._busy[function] -= 1
            self.queue.arrived.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                # It stays marked as running without running, which the next sweep sets right.
                _LOG.error("The outcome of %s is not stored.", delivery.id, exc_info=error)

        task.add_done_callback(ended)

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await self._call(delivery)
        except asyncio.CancelledError:
            self.outcomes.abandoned(delivery)
            raise

    async def _call(self, delivery: Delivery) -> None:
        try:
            body = await load_body(self.blobs, delivery.body)
            if delivery.kind is DeliveryKind.RUN:
                answer = await self.start_run(delivery, body)
            else:
                call = delivery.call(body, self.clock.now_us(), self.clock.monotonic_ns())
                answer = await self.invoke(call)
        except DsfnError as error:
            await self.outcomes.failed(delivery, error)
            return
        except Exception as error:  # noqa: BLE001
            # A fault of the node's own: the function may have run, so it is no new attempt.
            _LOG.exception("Delivering %s failed.", delivery.id)
            await self.outcomes.failed(delivery, Unavailable(f"The node itself failed: {error!r}."))
            return
        try:
            await self.outcomes.succeeded(delivery, answer)
        except RequestError as error:
            # It ran, but the event that follows from its answer cannot go on.
            await self.outcomes.stuck(delivery, error)
        except Unavailable as error:
            await self.outcomes.failed(delivery, error)  # not now

    def _sweep(self) -> None:
        now_us = self.clock.now_us()
        if now_us - self._swept_at_us < _SWEEP_EVERY_US:
            return
        self.queue.recover(self._running)
        if not any([sweep() for sweep in self.sweeps]):
            # Until then there is more to drop: the next round goes on with it.
            self._swept_at_us = now_us
