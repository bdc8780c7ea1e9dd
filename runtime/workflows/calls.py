"""Which call is made next: runs take turns, and what each may have under way is bounded."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import field

from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.runtime.clock import Clock
from dsfn.runtime.model import Revision
from dsfn.runtime.workflows.active import ActiveRun, Allowance, Attempt
from dsfn.runtime.workflows.attempts import (
    Attempts,
    Ended,
    Failed,
    Interrupted,
    function_of,
    revision_in,
)
from dsfn.runtime.workflows.budgets import allowance_for, has_budget
from dsfn.runtime.workflows.progress import Instance

MAX_CALLS = 512
MAX_OF_FUNCTION = 128
# The last quarter of the places is for runs that have no more than this part of them.
_FEW = 32
# Of a run's calls, how many are looked at for one of a function that has room.
_LOOKED_AT = 16


@dataclass(eq=False, slots=True)
class Calls:
    """Begins calls, `max_calls` at once, and `max_of_function` of each function.

    `most_nano`: the most that one call of a revision can cost. `new_id` makes an invocation id.
    `began` and `ended` are told what becomes of a step.
    """

    attempts: Attempts
    clock: Clock
    most_nano: Callable[[Revision], int]
    new_id: Callable[[int], str]
    began: Callable[[ActiveRun, Instance, Attempt], None]
    ended: Callable[[Ended], None]
    max_calls: int = MAX_CALLS
    max_of_function: int = MAX_OF_FUNCTION
    under_way: int = 0
    closed: bool = False
    _turns: deque[ActiveRun] = field(default_factory=deque)
    _of_function: Counter[str] = field(default_factory=Counter)
    # Runs all of whose next calls are of functions without room, by one of these.
    _parked: dict[str, dict[ActiveRun, None]] = field(default_factory=dict)

    def offer(self, run: ActiveRun) -> None:
        """A run that may have calls to make gets a place behind the others."""
        if not run.offered and _may_begin(run):
            run.offered = True
            self._turns.append(run)

    def begin(self) -> None:
        """Begins as many calls as there is room for, one of each run in turn."""
        crowding: list[ActiveRun] = []
        while self._turns and self.under_way < self.max_calls and not self.closed:
            run = self._turns.popleft()
            if self._crowds(run):
                crowding.append(run)
                continue
            run.offered = False
            if _may_begin(run) and self._begin_next(run):
                self.offer(run)
        self._turns.extend(crowding)

    def _crowds(self, run: ActiveRun) -> bool:
        """Whether a run has so much under way that what is left of the places is for others."""
        few_left = self.under_way >= self.max_calls * 3 // 4
        return few_left and len(run.attempts) >= self.max_calls // _FEW

    def _begin_next(self, run: ActiveRun) -> bool:
        """Begins a run's next call; False when it must wait for another call to end."""
        if not self._bring_forward(run):
            return False
        instance = run.callable[0]
        function = function_of(run, instance)
        try:
            revision = revision_in(run, function)
            allowance: Allowance | None = None
            if has_budget(run, instance):
                most_nano = self.most_nano(self.attempts.revision_of(revision))
                allowance = allowance_for(run, instance, most_nano)
                if allowance is None:
                    return False
        except DsfnError as error:
            run.callable.popleft()
            self._refuse(run, instance, function, error)
            return True
        run.callable.popleft()
        self._begin(run, instance, Attempt(function, revision, "", allowance))
        return True

    def _refuse(self, run: ActiveRun, instance: Instance, function: str, error: DsfnError) -> None:
        """A call cannot even be begun: it ends as an attempt does."""
        attempt = Attempt(function, run.pins.get(function, ""), "")
        run.attempts[instance] = attempt
        self.ended(Ended(run, instance, attempt, Failed(error)))

    def _bring_forward(self, run: ActiveRun) -> bool:
        """Has a call of a function with room be the run's next; False when it finds none."""
        for _ in range(min(len(run.callable), _LOOKED_AT)):
            function = function_of(run, run.callable[0])
            if self._of_function[function] < self.max_of_function:
                return True
            run.callable.rotate(-1)
        self._parked.setdefault(function, {})[run] = None
        return False

    def _begin(self, run: ActiveRun, instance: Instance, attempt: Attempt) -> None:
        now_us = self.clock.now_us()
        attempt.call_id = self.new_id(now_us)
        run.tallies[instance] = run.tally(instance).began(now_us, attempt.call_id)
        run.attempts[instance] = attempt
        self.under_way += 1
        self._of_function[attempt.function] += 1
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
        function = ended.attempt.function
        self.under_way -= 1
        self._of_function[function] -= 1
        if not self._of_function[function]:
            del self._of_function[function]
        while parked := self._parked.get(function):
            run = next(iter(parked))
            del parked[run]
            self.offer(run)
            if run.offered:
                break
        else:
            self._parked.pop(function, None)
        self.ended(ended)


def _may_begin(run: ActiveRun) -> bool:
    room = len(run.attempts) < run.plan.dag.options.parallel
    return bool(run.callable) and room and run.ending is None
