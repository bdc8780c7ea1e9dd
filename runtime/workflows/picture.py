"""The steps of a run as they are shown: what is stored, what follows from it, what runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import Call, Decide
from dsfn.runtime.workflows.active import ActiveRun, Attempt
from dsfn.runtime.workflows.journal import StepResult
from dsfn.runtime.workflows.model import Path, RunRecord, RunState, StepRecord, StepState
from dsfn.runtime.workflows.plan import Plan
from dsfn.runtime.workflows.progress import Instance
from dsfn.runtime.workflows.tally import Tally

StoredStep = tuple[int, StepRecord, int | None]


@dataclass(frozen=True, slots=True)
class Page:
    """Up to `limit` stored steps of a run; `outermost`: the outcomes of all that are stored of
    steps outside of every map, by step."""

    record: RunRecord
    plan: Plan
    stored: Sequence[StoredStep]
    outermost: Mapping[str, int | None]
    limit: int


def page_of(page: Page, active: ActiveRun | None) -> tuple[list[StepRecord], int]:
    """The records of a page, and the `after` of the next one, 0 when this is the last."""
    running = active.attempts if active is not None else {}
    found = [
        record
        for _, stored, outcome in page.stored
        if (stored.step, stored.path) not in running
        for record in (
            replace(stored, outcome=outcome),
            *_skipped(page.plan, stored.step, stored.path, outcome),
        )
    ]
    if len(page.stored) == page.limit:
        return found, page.stored[-1][0]
    if active is not None:
        found += [
            running_record(instance, attempt, active.tally(instance))
            for instance, attempt in active.attempts.items()
        ]
    found += _not_reached(page, {step for step, path in running if not path})
    return found, 0


def record_of(instance: Instance, tally: Tally, result: StepResult) -> StepRecord:
    """The record of a step that something has come of."""
    step, path = instance
    return StepRecord(
        step=step,
        path=path,
        function=result.function,
        revision=result.revision,
        state=result.state,
        attempts=tally.attempts,
        started_at_us=tally.started_at_us,
        finished_at_us=result.finished_at_us,
        busy_us=tally.busy_us,
        held_us=tally.held_us,
        cost_nano=tally.cost_nano,
        cached=result.cached,
        invocations=tally.invocations,
        error=None if result.error is None else result.error.to_document(),
    )


def running_record(instance: Instance, attempt: Attempt, tally: Tally) -> StepRecord:
    """The record of a step of which an attempt is under way."""
    result = StepResult(StepState.RUNNING, attempt.function, attempt.revision)
    return record_of(instance, tally, result)


def _not_reached(page: Page, running: set[str]) -> Iterator[StepRecord]:
    """The steps outside of every map that nothing has come of yet."""
    if page.record.state is RunState.SUCCEEDED:
        return
    reached = running | page.outermost.keys()
    for step, outcome in page.outermost.items():
        reached |= {record.step for record in _skipped(page.plan, step, (), outcome)}
    state = StepState.WAITING
    if page.record.state is not RunState.RUNNING:
        state = StepState.CANCELLED
    for step, node in page.plan.nodes.items():
        if node.depth == 0 and step not in reached:
            yield _untouched(page.plan, step, (), state)


def _skipped(plan: Plan, step: str, path: Path, outcome: int | None) -> Iterator[StepRecord]:
    """The steps of the branch that a decision did not take."""
    node = plan.nodes[step]
    if isinstance(node.step, Decide) and outcome is not None:
        for covered in node.covers[not outcome]:
            yield _untouched(plan, covered, path, StepState.SKIPPED)


def _untouched(plan: Plan, id_: str, path: Path, state: StepState) -> StepRecord:
    step = plan.nodes[id_].step
    function = step.function if isinstance(step, Call) else None
    return StepRecord(id_, path, function, None, state)
