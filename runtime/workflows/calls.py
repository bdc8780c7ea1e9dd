"""Which call is made next: runs take turns, and what each may have under way is bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from dsfn.functions.errors import DsfnError
from dsfn.runtime.clock import Clock
from dsfn.runtime.model import Revision
from dsfn.runtime.workflows.active import ActiveRun, Allowance, Attempt
from dsfn.runtime.workflows.attempts import Attempts, Ended, Interrupted, function_of, over_budget
from dsfn.runtime.workflows.progress import Instance

MAX_CALLS = 256


@dataclass(eq=False, slots=True)
class Calls:
    """Begins calls, `max_calls` at once.

    `most_nano`: the most that one call of a revision can cost. `new_id` makes an invocation id.
    `began`, `ended` and `refused` are told what becomes of a step.
    """

    attempts: Attempts
    clock: Clock
    most_nano: Callable[[Revision], int]
    new_id: Callable[[int], str]
    began: Callable[[ActiveRun, Instance, Attempt], None]
    ended: Callable[[Ended], None]
    refused: Callable[[ActiveRun, Instance, DsfnError], None]
    max_calls: int = MAX_CALLS
    under_way: int = 0
    closed: bool = False
    _turns: deque[ActiveRun] = field(default_factory=deque)

    def offer(self, run: ActiveRun) -> None:
        """A run that may have calls to make gets a place behind the others."""
        if not run.offered and _may_begin(run):
            run.offered = True
            self._turns.append(run)

    def begin(self) -> None:
        """Begins as many calls as there is room for, one of each run in turn."""
        while self._turns and self.under_way < self.max_calls and not self.closed:
            run = self._turns.popleft()
            run.offered = False
            if _may_begin(run) and self._begin_next(run):
                self.offer(run)

    def _begin_next(self, run: ActiveRun) -> bool:
        """Begins a run's next call; False when it must wait for another of its calls."""
        instance = run.callable[0]
        try:
            function, revision = function_of(run, instance)
            allowance = None
            if _has_budget(run, instance):
                most_nano = self.most_nano(self.attempts.revision_of(revision))
                allowance = allowance_for(run, instance, most_nano)
                if allowance is None:
                    return False
        except DsfnError as error:
            run.callable.popleft()
            self.refused(run, instance, error)
            return True
        run.callable.popleft()
        self._begin(run, instance, Attempt(function, revision, "", allowance))
        return True

    def _begin(self, run: ActiveRun, instance: Instance, attempt: Attempt) -> None:
        now_us = self.clock.now_us()
        attempt.call_id = self.new_id(now_us)
        run.tallies[instance] = run.tally(instance).began(now_us, attempt.call_id)
        run.attempts[instance] = attempt
        self.under_way += 1
        self.began(run, instance, attempt)
        attempt.task = asyncio.create_task(self._see_through(run, instance, attempt))

        def over(task: asyncio.Task[None]) -> None:
            if task.cancelled():
                # Called off before it came to its first line.
                self._over(Ended(run, instance, attempt, Interrupted()))

        attempt.task.add_done_callback(over)

    async def _see_through(self, run: ActiveRun, instance: Instance, attempt: Attempt) -> None:
        self._over(await self.attempts.make(run, instance, attempt))

    def _over(self, ended: Ended) -> None:
        self.under_way -= 1
        self.ended(ended)


def allowance_for(run: ActiveRun, instance: Instance, most_nano: int) -> Allowance | None:
    """What a call of a run or step with a budget may cost.

    None when it must wait until others of the run have ended, whose cost is not known yet.
    Raises `BudgetExceeded` when nothing is left.
    """
    budget_nano = run.call(instance).options.budget_nano
    found: Allowance | None = None
    if budget_nano is not None:
        left_nano = budget_nano - run.tally(instance).cost_nano
        found = Allowance(min(left_nano, most_nano), budget_nano, "step")
    budget_nano = run.plan.dag.options.budget_nano
    if budget_nano is not None:
        left_nano = budget_nano - run.cost_nano - run.reserved_nano
        needed_nano = most_nano if found is None else found.nano
        if left_nano < needed_nano and run.attempts:
            return None
        if found is None or left_nano < found.nano:
            found = Allowance(min(left_nano, most_nano), budget_nano, "run")
    assert found is not None, "there is a budget"
    if found.nano <= 0 < most_nano:
        raise over_budget(found)
    return found


def _has_budget(run: ActiveRun, instance: Instance) -> bool:
    of_run = run.plan.dag.options.budget_nano
    return of_run is not None or run.call(instance).options.budget_nano is not None


def _may_begin(run: ActiveRun) -> bool:
    room = len(run.attempts) < run.plan.dag.options.parallel
    return bool(run.callable) and room and run.ending is None
