"""What follows when something has come of a run: rows, the next steps, its end.

All methods are to be called inside a transaction of the node's database, and do nothing but
write to it and change what is in memory; what is to happen after the commit is in the
recorder's `effects`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dsfn.functions.errors import BudgetExceeded, DsfnError, RunCancelled
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import Call
from dsfn.runtime.clock import Clock
from dsfn.runtime.events.stored import INLINE_BYTES
from dsfn.runtime.workflows.active import ActiveRun, Attempt
from dsfn.runtime.workflows.attempts import Ended, Failed, Interrupted, Succeeded
from dsfn.runtime.workflows.cache import ResultCache
from dsfn.runtime.workflows.evaluation import Evaluation
from dsfn.runtime.workflows.journal import StepResult
from dsfn.runtime.workflows.model import Blob, RunState, StepState, item_of
from dsfn.runtime.workflows.progress import Instance
from dsfn.runtime.workflows.recorder import Recorder, of_attempt
from dsfn.runtime.workflows.tally import Tally, Verdict, judge, stand_in
from dsfn.runtime.workflows.values import NotAtHand, json_blob

# Decisions and fan-outs that are worked out in one turn of the event loop.
MAX_RESOLVED_PER_TURN = 200


@dataclass(eq=False, slots=True)
class Conductor:
    """Leads runs on. `random` gives [0, 1)."""

    recorder: Recorder
    evaluation: Evaluation
    cache: ResultCache
    clock: Clock
    random: Callable[[], float]

    def attempt_ended(self, ended: Ended) -> None:
        """An attempt is over."""
        run, instance = ended.run, ended.instance
        run.attempts.pop(instance, None)
        outcome, usages = ended.outcome, ended.usages
        if isinstance(outcome, Interrupted) and run.ending is None:
            # That the node stops is nobody's to pay.
            usages = [replace(usage, status="platform") for usage in usages]
        tally = self.recorder.charge(run, run.tally(instance), usages)
        run.tallies[instance] = tally
        if isinstance(outcome, Succeeded):
            self._succeeded(ended, outcome, tally)
        elif run.ending is not None:
            self.recorder.put(
                run, instance, tally, of_attempt(ended.attempt, StepState.CANCELLED, self._now())
            )
        elif isinstance(outcome, Failed):
            self._failed(ended, outcome.error, tally)
        else:
            # The node stops; the step runs again at its next start.
            self.recorder.interrupted(run, instance, tally, ended.attempt)
            run.progress.ready.append(instance)
        self.advance(run)

    def begin(self, run: ActiveRun) -> None:
        """A run has just been stored."""
        self.recorder.announcer.started(run)
        self.advance(run)

    def worked_out(
        self, run: ActiveRun, instance: Instance | None, result: int | Blob | DsfnError | None
    ) -> None:
        """A decision, a fan-out or, under None, the output was worked out in a thread; `result`
        is None when that was called off."""
        run.resolving.pop(instance, None)
        if run.ending is None and result is not None:
            if instance is not None:
                assert not isinstance(result, Blob)
                self._take_outcome(run, instance, result)
            elif isinstance(result, DsfnError):
                self.end(run, result)
            else:
                assert isinstance(result, Blob)
                self.recorder.finish(run, RunState.SUCCEEDED, output=result)
                return
        if run.ending is not None or result is not None:
            self.advance(run)

    def end(self, run: ActiveRun, error: DsfnError) -> None:
        """The run is to end with this, once nothing of it runs any more."""
        if run.ending is None:
            run.ending = error
            run.callable.clear()
            self.recorder.effects.stopped.append(run)

    def advance(self, run: ActiveRun) -> None:
        """Does all that can be done without a call."""
        ready = run.progress.ready
        while ready and run.ending is None:
            if self.recorder.effects.resolved >= MAX_RESOLVED_PER_TURN:
                self.recorder.effects.unfinished[run] = None
                return
            instance = ready.popleft()
            if isinstance(run.plan.nodes[instance[0]].step, Call):
                self._begin_or_wait(run, instance)
            else:
                self._resolve(run, instance)
        if run.ending is not None:
            self._end_if_still(run)
        elif run.progress.over:
            self._give_output(run)
        self.recorder.effects.touched[run] = None

    def _begin_or_wait(self, run: ActiveRun, instance: Instance) -> None:
        due_us = run.tally(instance).not_before_us
        if due_us is not None and due_us > self._now():
            self.recorder.effects.due.append((run, instance, due_us))
        else:
            run.callable.append(instance)

    def _succeeded(self, ended: Ended, outcome: Succeeded, tally: Tally) -> None:
        run, instance, blob = ended.run, ended.instance, outcome.blob
        if outcome.digest is not None:
            revision = ended.attempt.revision
            if not outcome.cached:
                self.cache.put(revision, outcome.digest, blob)
            elif self.cache.get(revision, outcome.digest) is None:
                # It has just been dropped, and its blob may have been: it must be run.
                run.progress.ready.append(instance)
                return
        if not outcome.cached:
            tally = tally.succeeded()
        self._settle(run, instance, tally, ended.attempt, blob, outcome.cached)

    def _settle(
        self,
        run: ActiveRun,
        instance: Instance,
        tally: Tally,
        attempt: Attempt,
        blob: Blob,
        cached: bool = False,
    ) -> None:
        result = of_attempt(attempt, StepState.SUCCEEDED, self._now(), blob=blob, cached=cached)
        self.recorder.put(run, instance, tally, result)
        run.tallies.pop(instance, None)
        self.evaluation.outcomes(run).keep(*instance, blob)
        run.progress.settle(instance)

    def _failed(self, ended: Ended, error: DsfnError, tally: Tally) -> None:
        run, instance = ended.run, ended.instance
        options = run.call(instance).options
        decided, tally = judge(options, tally, error, self._now(), self.random)
        run.tallies[instance] = tally
        if decided is not Verdict.FINAL:
            waiting = of_attempt(ended.attempt, StepState.WAITING, error=error)
            if decided is Verdict.RETRY or ended.usages:
                self.recorder.put(run, instance, tally, waiting)
            assert tally.not_before_us is not None
            self.recorder.effects.due.append((run, instance, tally.not_before_us))
            return
        fallback = options.fallback
        if fallback is None or tally.stood_in or _is_of_run(error):
            self._fail(run, instance, tally, ended.attempt, error)
        elif fallback.value is not None:
            constant = json_blob(fallback.value.text.encode())
            self._settle(run, instance, tally, ended.attempt, constant)
        else:
            run.tallies[instance] = stand_in(tally)
            waiting = of_attempt(ended.attempt, StepState.WAITING, error=error)
            self.recorder.put(run, instance, run.tallies[instance], waiting)
            run.progress.ready.append(instance)

    def _fail(
        self,
        run: ActiveRun,
        instance: Instance,
        tally: Tally,
        attempt: Attempt | None,
        error: DsfnError,
    ) -> None:
        step, path = instance
        error.add_fields(run=run.id, step=step, item=item_of(path))
        self.recorder.put(
            run, instance, tally, of_attempt(attempt, StepState.FAILED, self._now(), error)
        )
        self.end(run, error)

    def _resolve(self, run: ActiveRun, instance: Instance) -> None:
        self.recorder.effects.resolved += 1
        try:
            evaluator = self.evaluation.at_once(run)
            result: int | DsfnError = self.evaluation.outcome(run, instance, evaluator)
        except NotAtHand:
            self._work_out(run, instance)
            return
        except DsfnError as error:
            result = error
        self._take_outcome(run, instance, result)

    def _take_outcome(self, run: ActiveRun, instance: Instance, result: int | DsfnError) -> None:
        if isinstance(result, DsfnError):
            self._fail(run, instance, Tally(), None, result)
            return
        done = StepResult(StepState.SUCCEEDED, finished_at_us=self._now(), outcome=result)
        self.recorder.put(run, instance, Tally(), done)
        self.evaluation.outcomes(run).keep_outcome(*instance, result)
        run.progress.settle(instance, result)

    def _give_output(self, run: ActiveRun) -> None:
        try:
            output = self.evaluation.output(run, self.evaluation.at_once(run))
            if output.inline is not None and output.size_bytes > INLINE_BYTES:
                raise NotAtHand
        except NotAtHand:
            self._work_out(run, None)
        except DsfnError as error:
            self.end(run, error)
            self._end_if_still(run)
        else:
            self.recorder.finish(run, RunState.SUCCEEDED, output=output)

    def _work_out(self, run: ActiveRun, instance: Instance | None) -> None:
        if instance not in run.resolving:
            run.resolving[instance] = None
            self.recorder.effects.slow.append((run, instance))

    def _end_if_still(self, run: ActiveRun) -> None:
        if run.attempts or run.resolving:
            return
        error = run.ending
        if isinstance(error, RunCancelled):
            self.recorder.finish(run, RunState.CANCELLED)
        else:
            self.recorder.finish(run, RunState.FAILED, error=error)

    def _now(self) -> int:
        return self.clock.now_us()


def _is_of_run(error: DsfnError) -> bool:
    """Whether it is the run's own budget that is used up: nothing can stand in for that."""
    return isinstance(error, BudgetExceeded) and error.fields.get("of") == "run"
