"""Budgets: what a call may cost, so that neither its run nor its step overspends."""

from __future__ import annotations

from dsfn.runtime.workflows.active import ActiveRun, Allowance
from dsfn.runtime.workflows.attempts import over_budget
from dsfn.runtime.workflows.progress import Instance


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


def has_budget(run: ActiveRun, instance: Instance) -> bool:
    """Whether the run or the step of a call has one."""
    of_run = run.plan.dag.options.budget_nano
    return of_run is not None or run.call(instance).options.budget_nano is not None
