"""What a run cost, by step and attempt, from the ledger's rows, as a JSON document."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from dsfn.billing.run_cost import AttemptKey, Cost, StepCost, run_cost
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import Call, Dag
from dsfn.runtime.gateway.run_documents import all_steps
from dsfn.runtime.services import Services
from dsfn.runtime.workflows.model import RunRecord, StepRecord, StepState

Document = dict[str, Any]


async def cost_of(services: Services, run: RunRecord) -> Document:
    """All calls that were made for a run; of one that goes on, those that have ended."""
    await services.runs.settle()
    steps = await all_steps(services.runs, run.id)
    dag = services.workflows.revision(run.revision).dag
    return await asyncio.to_thread(_cost_of, services, run, dag, steps)


def _cost_of(services: Services, run: RunRecord, dag: Dag, steps: Sequence[StepRecord]) -> Document:
    book = services.rates.book
    costs = run_cost(services.ledger.usage_of_run(run.id), book)
    return run_cost_document(run, dag, steps, costs, book.currency)


def run_cost_document(
    run: RunRecord,
    dag: Dag,
    steps: Iterable[StepRecord],
    costs: Iterable[StepCost],
    currency: str,
) -> Document:
    """What a run cost, its steps in the order of the workflow. `steps` are all of the run."""
    spared = {step.id: _Spared() for step in dag.steps if isinstance(step, Call)}
    for record in steps:
        if record.step in spared:
            spared[record.step].count(record)
    known = {each.step: each for each in costs}
    shown = [known.get(id_, StepCost(id_, 0, ())) for id_ in spared]
    return {
        "run": run.id,
        "workflow": run.workflow,
        "revision": run.revision,
        "state": run.state,
        "retry_of": run.retry_of,
        "currency": currency,
        **asdict(sum((each.cost for each in shown), Cost())),
        "steps": [_step_document(each, spared[each.step], run.retry_of) for each in shown],
    }


@dataclass(slots=True)
class _Spared:
    """Items of a step that cost nothing here: whose result was kept, or is an earlier run's."""

    cached: int = 0
    taken_over: int = 0

    def count(self, record: StepRecord) -> None:
        """One item."""
        if record.state is StepState.SUCCEEDED and not record.invocations:
            self.taken_over += 1
        elif record.cached:
            self.cached += 1


def _step_document(each: StepCost, spared: _Spared, retry_of: str | None) -> Document:
    return {
        "id": each.step,
        "items": each.items,
        "retries": each.retries,
        "cached": spared.cached,
        "taken_over": spared.taken_over,
        **asdict(each.cost),
        "attempts": [_attempt_document(key, cost) for key, cost in each.attempts],
        "note": _note(spared, retry_of),
    }


def _attempt_document(key: AttemptKey, cost: Cost) -> Document:
    return {
        "attempt": key.attempt,
        "status": key.status,
        "function": key.function,
        "device_class": key.device_class,
        **asdict(cost),
    }


def _note(spared: _Spared, retry_of: str | None) -> str:
    notes = []
    if spared.taken_over:
        notes.append(f"{spared.taken_over} taken over from run {retry_of}")
    if spared.cached:
        notes.append(f"{spared.cached} from results that were kept")
    return "; ".join(notes)
