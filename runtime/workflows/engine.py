"""The engine: runs of workflows, durably.

What came of a step is stored before anything depends on it, together with what it used; a
node that was killed goes on, at its next start, from what is stored.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial

from dsfn.billing.sqlite import transaction
from dsfn.functions.errors import Conflict, DsfnError, RunCancelled, ShuttingDown, Unavailable
from dsfn.runtime.workflows.announcer import Announcer
from dsfn.runtime.workflows.attempts import Attempts
from dsfn.runtime.workflows.books import Books
from dsfn.runtime.workflows.conductor import Conductor
from dsfn.runtime.workflows.evaluation import Evaluation
from dsfn.runtime.workflows.journal import Journal
from dsfn.runtime.workflows.loading import Loader
from dsfn.runtime.workflows.machine import Machine
from dsfn.runtime.workflows.model import (
    Change,
    NewRun,
    RunRecord,
    RunState,
    StepRecord,
)
from dsfn.runtime.workflows.picture import Page, page_of
from dsfn.runtime.workflows.recorder import Recorder
from dsfn.runtime.workflows.starting import Prepared, first_run, insert, prepare
from dsfn.runtime.workflows.store import RunStore
from dsfn.runtime.workflows.surroundings import Surroundings
from dsfn.runtime.workflows.turns import Entry

MAX_RUNS = 10_000
CLOSE_GRACE_S = 10.0
_FULL_RETRY_AFTER_S = 5.0
_STOPPING_RETRY_AFTER_S = 1.0
# Runs that are taken up before the event loop does something else.
_RESUMED_AT_ONCE = 20


class Engine:
    """Takes runs on, sees each through to its one end, and takes up at its start what a node
    that was killed had begun. Belongs to the event loop's thread."""

    def __init__(
        self,
        around: Surroundings,
        max_runs: int = MAX_RUNS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`chance` gives [0, 1), for the waits between attempts."""
        self._around = around
        self._max_runs = max_runs
        self._journal = Journal(around.connection)
        self.store = RunStore(around.connection, around.clock)
        self._loader = Loader(around.connection, around.workflows)
        evaluation = Evaluation(around.connection, around.blobs, around.max_bytes)
        announcer = Announcer(around.router, around.clock, around.prices.currency)
        recorder = Recorder(self._journal, announcer, around.clock, around.prices.of)
        self._conductor = Conductor(recorder, evaluation, around.cache, around.clock, chance)
        self._machine = Machine(
            around.connection,
            around.clock,
            self._conductor,
            Attempts(
                around.caller,
                evaluation,
                around.blobs,
                around.cache,
                around.functions,
                around.clock,
            ),
            self._loader,
            Books(self._journal, around.post),
            self.store,
            around.prices.at_most,
            around.new_id,
        )
        self._resuming: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def start_serving(self) -> None:
        """Takes up the runs that were not over, and begins. Raises `StorageFull`."""
        self._machine.books.recover(self._around.post_now)
        ids = self._journal.under_way()
        self._resuming.update(ids)
        self._task = asyncio.create_task(self._resume(ids), name="workflows-resume")

    def drain(self) -> None:
        """Makes no more calls, because the node is about to stop; those under way may end."""
        self._machine.drain()

    async def close(self, grace_s: float = CLOSE_GRACE_S) -> None:
        """Calls off what still runs `grace_s` after `drain`; all that has not ended is taken up
        again at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        error = ShuttingDown(
            "The node stops; the run goes on when it starts again.",
            retry_after_s=_STOPPING_RETRY_AFTER_S,
        )
        await self._machine.close(error, grace_s)

    async def start(self, run: NewRun) -> str:
        """Takes a run on; when this returns it survives `kill -9`. Gives its id, or that of the
        first run with its idempotency key.

        Raises `Unavailable` when as many are under way as may be, `IdempotencyMismatch`,
        `NotFound` when a revision that it keeps to is gone, `StorageFull`.
        """
        prepared = await prepare(run, self._around.blobs)
        stored: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._machine.turns.add(
            Entry(lambda: self._begin(prepared, stored), refused=partial(_give_up, stored))
        )
        return await stored

    async def wait(self, run: str) -> RunRecord:
        """The run once it has ended. Calling the wait off leaves the run alone.

        Raises `NotFound`, and `ShuttingDown` when the node stops before.
        """
        record = self.store.get(run)
        if record.state is not RunState.RUNNING:
            return record
        return await self._machine.ended(run)

    def cancel(self, run: str) -> None:
        """Calls a run off: it ends, cancelled, once the calls that it made have been stopped.

        Raises `NotFound`, `Conflict` when it has ended, `StorageFull`.
        """
        record = self.store.get(run)
        if record.state is not RunState.RUNNING:
            raise Conflict(f"Run {run} is over: {record.state}.", run=run, state=record.state)
        with transaction(self._around.connection):
            self._journal.call_off(run)
        active = self._machine.runs.get(run)
        if active is not None:
            self._machine.end(active, RunCancelled("The run was cancelled."))

    async def retry(self, run: str, new_id: str) -> str:
        """Starts a run that takes over what `run` finished and goes on from there; gives its id.

        Raises `NotFound`, also when a function that it keeps to is gone, `Conflict` unless it
        failed or was cancelled, and what `start` does.
        """
        record = self.store.get(run)
        if record.state not in (RunState.FAILED, RunState.CANCELLED):
            raise Conflict(f"Run {run} is {record.state}.", run=run, state=record.state)
        first = self._loader.load(run)
        for revision in first.pins.values():
            self._around.functions(revision)
        return await self.start(
            NewRun(
                id=new_id,
                revision=self._around.workflows(first.revision),
                inputs=first.inputs,
                pins=first.pins,
                tenant=first.tenant,
                key_id=first.key_id,
                caller=first.caller,
                traceparent=first.traceparent,
                cause=first.cause,
                retry_of=run,
            )
        )

    def steps(self, run: str, limit: int = 1000, after: int = 0) -> tuple[list[StepRecord], int]:
        """Steps of a run in the order in which they ended, then those that run or wait, and the
        `after` of the next page, 0 when there is none. Raises `NotFound`."""
        record = self.store.get(run)
        plan = self._loader.plan(self._around.workflows(record.revision))
        stored, outermost = self.store.steps(run, limit, after), self.store.outermost(run)
        page = Page(record, plan, stored, outermost, limit)
        return page_of(page, self._machine.runs.get(run))

    def watch(self, run: str | None = None) -> AsyncIterator[Change]:
        """What happens to a run from now on, until it has ended; to all runs, without end, when
        none is named. Somebody who does not keep up misses steps, but no run's end.

        Raises `NotFound`.
        """
        watching = self._machine.watchers.watch(run)
        if run is not None and (record := self.store.get(run)).state is not RunState.RUNNING:
            self._machine.watchers.publish(Change(run, ended=record))
        return watching

    async def settle(self) -> None:
        """Posts the usage rows that the ledger has not yet, if it can be written."""
        await self._machine.settle()

    def under_way(self) -> int:
        """How many runs have not ended."""
        return len(self._machine.runs) + len(self._resuming)

    def calls_under_way(self) -> int:
        """How many calls runs are waiting for."""
        return self._machine.calls.under_way

    def ended(self) -> Mapping[tuple[str, str], int]:
        """How many runs have ended since the node's start, by workflow and last state."""
        return self._machine.ended_counts

    def _begin(self, prepared: Prepared, stored: asyncio.Future[str]) -> None:
        """Inside a turn's transaction: the run is stored and goes as far as it can."""
        effects = self._conductor.recorder.effects
        try:
            first = first_run(prepared, self._journal)
            if first is None:
                self._require_room()
                self._require_revisions(prepared.new)
        except DsfnError as error:
            effects.later.append(partial(_give_up, stored, error))
            return
        if first is None:
            plan = self._loader.plan(prepared.new.revision)
            run = insert(prepared, plan, self._journal, self._around.clock.now_us())
            effects.later.append(lambda: self._machine.take_on(run))
            self._loader.reload(run)
            self._conductor.begin(run)
        id_ = first or prepared.new.id
        effects.later.append(lambda: _give(stored, id_))

    def _require_room(self) -> None:
        if self.under_way() >= self._max_runs:
            raise Unavailable(
                f"There are {self._max_runs} runs under way, which is the limit.",
                retry_after_s=_FULL_RETRY_AFTER_S,
            )

    def _require_revisions(self, new: NewRun) -> None:
        """What a run keeps to may have been deleted since it was chosen; once the run is stored
        it stays."""
        self._around.workflows(new.revision.id)
        for revision in new.pins.values():
            self._around.functions(revision)

    async def _resume(self, ids: Sequence[str]) -> None:
        """Takes up runs a few at a time, so that the node answers meanwhile."""
        for number, id_ in enumerate(ids):
            self._machine.resume(id_)
            self._resuming.discard(id_)
            if number % _RESUMED_AT_ONCE == 0:
                await asyncio.sleep(0)


def _give(stored: asyncio.Future[str], id_: str) -> None:
    if not stored.done():
        stored.set_result(id_)


def _give_up(stored: asyncio.Future[str], error: DsfnError) -> None:
    if not stored.done():
        stored.set_exception(error)
