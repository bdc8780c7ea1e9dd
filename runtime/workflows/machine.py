"""What turns the engine's wheels: the runs in memory, their tasks, timers, and those who wait."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import Any

import apsw

from dsfn.billing.sqlite import transaction
from dsfn.functions.errors import DsfnError, RunTimedOut, StorageFull, Unavailable
from dsfn.functions.values import dataclass
from dsfn.runtime.clock import Clock
from dsfn.runtime.model import Revision
from dsfn.runtime.workflows.active import ActiveRun, Attempt
from dsfn.runtime.workflows.attempts import Attempts, Ended
from dsfn.runtime.workflows.books import Books
from dsfn.runtime.workflows.calls import Calls
from dsfn.runtime.workflows.conductor import Conductor
from dsfn.runtime.workflows.loading import Loader
from dsfn.runtime.workflows.model import Blob, Change, RunRecord
from dsfn.runtime.workflows.picture import record_of, running_record
from dsfn.runtime.workflows.progress import Instance
from dsfn.runtime.workflows.recorder import Effects
from dsfn.runtime.workflows.store import RunStore
from dsfn.runtime.workflows.turns import PAUSE_S, Entry, Turns
from dsfn.runtime.workflows.values import Evaluator
from dsfn.runtime.workflows.watchers import Watchers

WorkedOut = int | Blob | DsfnError
_LOG = logging.getLogger("dsfn.workflows")


@dataclass(eq=False)
class Machine:
    """Carries out what the conductor decides, once that is committed."""

    connection: apsw.Connection
    clock: Clock
    conductor: Conductor
    attempts: Attempts
    loader: Loader
    books: Books
    store: RunStore
    most_nano: Callable[[Revision], int]
    new_id: Callable[[int], str]
    runs: dict[str, ActiveRun] = field(default_factory=dict)
    watchers: Watchers = field(default_factory=Watchers)
    ended_counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _waiting: dict[str, list[asyncio.Future[RunRecord]]] = field(default_factory=dict)
    _closed: bool = False
    _drained_at_s: float = 0.0

    def __post_init__(self) -> None:
        self.turns = Turns(
            self.connection, self._before, self._committed, self.loader.reload, self._broken
        )
        self.calls = Calls(
            self.attempts,
            self.clock,
            self.most_nano,
            self.new_id,
            self._began,
            self._ended,
        )

    def take_on(self, run: ActiveRun) -> None:
        """A run is stored and goes on from here."""
        self.runs[run.id] = run
        passed_s = (self.clock.now_us() - run.started_at_us) / 1_000_000
        timeout_s = run.plan.dag.options.timeout_s
        error = RunTimedOut(f"The run took longer than {timeout_s:g} s.", timeout_s=timeout_s)
        loop = asyncio.get_running_loop()
        run.timers[None] = loop.call_later(max(0.0, timeout_s - passed_s), self.end, run, error)

    def resume(self, id_: str) -> None:
        """Takes up a run that a node which was killed had begun."""
        try:
            run = self.loader.load(id_)
        except DsfnError as error:
            # It cannot go on without its workflow, and nobody must wait for it for ever.
            _LOG.error("Run %s cannot be taken up: %s", id_, error.message)
            self._abandon(id_, error)
            return
        self.take_on(run)
        self.advance(run)

    def advance(self, run: ActiveRun) -> None:
        """Has a run go as far as it can in the next turn."""
        self.turns.add(Entry(lambda: self.conductor.advance(run), run))

    def end(self, run: ActiveRun, error: DsfnError) -> None:
        """Has a run end with `error` as soon as what it has under way is stopped."""

        def apply() -> None:
            self.conductor.end(run, error)
            self.conductor.advance(run)

        if run.id in self.runs:
            self.turns.add(Entry(apply, run))

    async def ended(self, run: str) -> RunRecord:
        """The record of a run once it has ended."""
        ended: asyncio.Future[RunRecord] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run, []).append(ended)
        return await ended

    def drain(self) -> None:
        """Makes no more calls; those under way may end for a while."""
        if not self.calls.closed:
            self.calls.closed = True
            self._drained_at_s = asyncio.get_running_loop().time()

    async def close(self, error: DsfnError, grace_s: float) -> None:
        """Calls off what still runs so long after `drain`; who waits gets `error`."""
        self.drain()
        left_s = self._drained_at_s + grace_s - asyncio.get_running_loop().time()
        calls = [a.task for run in self.runs.values() for a in run.attempts.values() if a.task]
        if calls and left_s > 0:
            await asyncio.wait(calls, timeout=left_s)
        self._closed = True
        tasks = [task for run in self.runs.values() for task in _stop(run)]
        if tasks:
            await asyncio.wait(tasks)
        # What was called off tells so in a callback of its own.
        await asyncio.sleep(0)
        self.turns.close()
        await self.settle()
        self.books.close()
        for waiting in self._waiting.values():
            for ended in waiting:
                if not ended.done():
                    ended.set_exception(error)

    async def settle(self) -> None:
        """Posts the rows that are owed, if the ledger can be written."""
        settled = asyncio.Event()
        self.books.settle(settled.set)
        await settled.wait()

    def _before(self) -> None:
        self.conductor.recorder.taken()
        self.books.note()

    def _committed(self) -> None:
        effects = self.conductor.recorder.taken()
        for then in effects.later:
            then()
        if self.watchers:
            for run, instance, tally, result in effects.steps:
                self.watchers.publish(Change(run.id, record_of(instance, tally, result)))
        for run in effects.stopped:
            _stop(run)
        for run, state in effects.ended:
            self.ended_counts[run.workflow, state] += 1
            self.runs.pop(run.id, None)
            _stop(run)
        if not self._closed:
            self._go_on(effects)
        self.books.owe(effects.owed)
        if effects.ended:
            self._tell(effects)

    def _go_on(self, effects: Effects) -> None:
        for run, instance in effects.slow:
            self._begin_to_work_out(run, instance)
        loop, now_us = asyncio.get_running_loop(), self.clock.now_us()
        for run, instance, due_us in effects.due:
            delay_s = max(0, due_us - now_us) / 1_000_000
            run.timers[instance] = loop.call_later(delay_s, self._is_due, run, instance)
        for run in effects.unfinished:
            self.advance(run)
        for run in effects.touched:
            self.calls.offer(run)
        self.calls.begin()

    def _tell(self, effects: Effects) -> None:
        """Tells that runs have ended. The books first: who hears of it finds the rows there."""
        self.books.settle(partial(self._tell_now, effects))

    def _tell_now(self, effects: Effects) -> None:
        for run, _ in effects.ended:
            if not self.watchers and run.id not in self._waiting:
                continue
            record = self.store.get(run.id)
            self.watchers.publish(Change(run.id, ended=record))
            for ended in self._waiting.pop(run.id, ()):
                if not ended.done():
                    ended.set_result(record)

    def _is_due(self, run: ActiveRun, instance: Instance) -> None:
        run.timers.pop(instance, None)
        if run.ending is None:
            run.callable.append(instance)
            self.calls.offer(run)
            self.calls.begin()

    def _began(self, run: ActiveRun, instance: Instance, attempt: Attempt) -> None:
        tally, announcer = run.tally(instance), self.conductor.recorder.announcer
        if announcer.expects_attempts():
            self.turns.add(Entry(lambda: announcer.began(run, instance, attempt, tally)))
        if self.watchers:
            self.watchers.publish(Change(run.id, running_record(instance, attempt, tally)))

    def _ended(self, ended: Ended) -> None:
        run, instance = ended.run, ended.instance

        def undo() -> None:
            run.attempts[instance] = ended.attempt

        self.turns.add(Entry(lambda: self.conductor.attempt_ended(ended), run, undo))

    def _begin_to_work_out(self, run: ActiveRun, instance: Instance | None) -> None:
        task = asyncio.create_task(self._work_out(run, instance))
        task.add_done_callback(lambda task: self._worked_out(run, instance, task))
        run.resolving[instance] = task

    async def _work_out(self, run: ActiveRun, instance: Instance | None) -> WorkedOut:
        evaluation = self.conductor.evaluation

        def work(evaluator: Evaluator) -> int | Blob:
            if instance is None:
                return evaluation.store(evaluation.output(run, evaluator))
            return evaluation.outcome(run, instance, evaluator)

        try:
            while True:
                try:
                    return await evaluation.in_thread(run, work)
                except (Unavailable, StorageFull) as error:
                    _LOG.warning("Run %s cannot go on now: %s", run.id, error.message)
                    await asyncio.sleep(PAUSE_S)
        except DsfnError as error:
            return error
        except Exception as error:  # noqa: BLE001  a fault of ours must not end the engine
            _LOG.exception("A fault of the node in run %s.", run.id)
            return DsfnError(f"The node failed: {error!r}.")

    def _worked_out(
        self, run: ActiveRun, instance: Instance | None, task: asyncio.Task[WorkedOut]
    ) -> None:
        result = None if task.cancelled() else task.result()

        def apply() -> None:
            self.conductor.worked_out(run, instance, result)

        def undo() -> None:
            run.resolving[instance] = task

        self.turns.add(Entry(apply, run, undo))

    def _broken(self, run: ActiveRun, error: DsfnError) -> None:
        for instance, attempt in list(run.attempts.items()):
            if attempt.task is None or attempt.task.done():
                del run.attempts[instance]
        self.end(run, error)

    def _abandon(self, id_: str, error: DsfnError) -> None:
        with transaction(self.connection):
            self.conductor.recorder.journal.finish_unread(id_, self.clock.now_us(), error)
        for ended in self._waiting.pop(id_, ()):
            ended.set_result(self.store.get(id_))


def _stop(run: ActiveRun) -> list[asyncio.Task[Any]]:
    """Calls off all that a run has under way; gives the tasks that are still to end."""
    for timer in run.timers.values():
        timer.cancel()
    run.timers.clear()
    tasks: list[asyncio.Task[Any]] = [a.task for a in run.attempts.values() if a.task is not None]
    tasks += [task for task in run.resolving.values() if task is not None]
    for task in tasks:
        task.cancel()
    return tasks
