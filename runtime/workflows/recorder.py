"""Writes what came of runs, and gathers what is to happen once that is committed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field

from dsfn.billing.usage import Usage
from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.runtime.clock import Clock
from dsfn.runtime.workflows.active import ActiveRun, Attempt
from dsfn.runtime.workflows.announcer import Announcer
from dsfn.runtime.workflows.journal import Journal, StepResult
from dsfn.runtime.workflows.model import Blob, RunState, StepState
from dsfn.runtime.workflows.progress import Instance
from dsfn.runtime.workflows.tally import Tally


@dataclass(slots=True)
class Effects:
    """What is to happen once the transaction is committed.

    `touched`: runs that may have calls to make. `slow`: what is to be worked out in a thread.
    `unfinished`: runs that were not advanced to the end. `stopped`: runs whose calls are to be
    called off. `due`: steps that wait, and until when. `owed`: usage rows with their numbers.
    `steps`: what was stored of steps. `ended`: runs, with their last state.
    `later`: all else.
    """

    touched: dict[ActiveRun, None] = field(default_factory=dict)
    slow: list[tuple[ActiveRun, Instance | None]] = field(default_factory=list)
    unfinished: dict[ActiveRun, None] = field(default_factory=dict)
    stopped: list[ActiveRun] = field(default_factory=list)
    due: list[tuple[ActiveRun, Instance, int]] = field(default_factory=list)
    owed: list[tuple[int, Usage]] = field(default_factory=list)
    steps: list[tuple[ActiveRun, Instance, Tally, StepResult]] = field(default_factory=list)
    ended: list[tuple[ActiveRun, RunState]] = field(default_factory=list)
    later: list[Callable[[], None]] = field(default_factory=list)
    resolved: int = 0


@dataclass(eq=False, slots=True)
class Recorder:
    """Writes rows and, where somebody subscribed, events, inside the caller's transaction.

    `cost_nano` prices a usage row.
    """

    journal: Journal
    announcer: Announcer
    clock: Clock
    cost_nano: Callable[[Usage], int]
    effects: Effects = field(default_factory=Effects)

    def taken(self) -> Effects:
        """The effects since the last time."""
        effects, self.effects = self.effects, Effects()
        return effects

    def charge(self, run: ActiveRun, tally: Tally, usages: Sequence[Usage]) -> Tally:
        """Keeps usage rows for the ledger, and adds them to what the run and the step used."""
        if not usages:
            return tally
        cost_nano, held_us = sum(map(self.cost_nano, usages)), sum(u.held_us for u in usages)
        for usage in usages:
            self.effects.owed.append((self.journal.owe(usage), usage))
        self.journal.spend(run.seq, held_us, cost_nano)
        run.held_us += held_us
        run.cost_nano += cost_nano
        return tally.used(usages, cost_nano)

    def put(self, run: ActiveRun, instance: Instance, tally: Tally, result: StepResult) -> None:
        """What came of a step."""
        self.journal.put_step(run.seq, instance, tally, result)
        self.announcer.step(run, instance, tally, result)
        self.effects.steps.append((run, instance, tally, result))

    def interrupted(
        self, run: ActiveRun, instance: Instance, tally: Tally, attempt: Attempt
    ) -> None:
        """What an attempt used that nothing came of: the step is as it was before."""
        self.journal.put_step(run.seq, instance, tally, of_attempt(attempt, StepState.WAITING))

    def finish(
        self,
        run: ActiveRun,
        state: RunState,
        error: DsfnError | None = None,
        output: Blob | None = None,
    ) -> None:
        """The end of a run; of several, the first."""
        if self.journal.finish(run.seq, state, self.clock.now_us(), error, output):
            self.announcer.ended(run, state, error, output)
            self.effects.ended.append((run, state))


def of_attempt(
    attempt: Attempt | None,
    state: StepState,
    finished_at_us: int | None = None,
    error: DsfnError | None = None,
    blob: Blob | None = None,
    cached: bool = False,
) -> StepResult:
    """What came of an attempt, or of a step without one."""
    function = None if attempt is None else attempt.function
    revision = None if attempt is None else attempt.revision or None
    return StepResult(
        state, function, revision, finished_at_us, cached=cached, blob=blob, error=error
    )
