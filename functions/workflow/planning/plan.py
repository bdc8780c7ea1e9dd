"""`make_plan`: from what is offered and wanted to a workflow that was checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dsfn.functions.workflow.checking import check
from dsfn.functions.workflow.document import digest_of
from dsfn.functions.workflow.planning.assembling import Assembled, assemble
from dsfn.functions.workflow.planning.bounds import Bounds, bounds_of
from dsfn.functions.workflow.planning.catalogue import Catalogue, catalogue_of
from dsfn.functions.workflow.planning.explaining import explain
from dsfn.functions.workflow.planning.failing import no_plan
from dsfn.functions.workflow.planning.model import Alternative, Offer, Plan, Request
from dsfn.functions.workflow.planning.search import MAX_STATES, Outcome, Search

AUTO = "auto"
_DIGITS = 8


def make_plan(
    request: Request,
    offers: Iterable[Offer],
    name: str | None = None,
    currency: str = "USD",
    max_states: int = MAX_STATES,
) -> Plan:
    """The best workflow from the inputs to the output that these functions make up.

    Without a name it is called `auto-` and eight hex digits of what it does. Raises `NoPlan`
    when nothing leads there, `InvalidInput` for a request that makes no sense.
    """
    catalogue = catalogue_of(request, offers)
    bounds = bounds_of(catalogue)
    if any(given.type not in bounds.after for given in catalogue.given):
        raise no_plan(catalogue, bounds, complete=True)
    outcome = Search(catalogue, bounds, max_states).run()
    if not outcome.goals:
        raise no_plan(catalogue, bounds, outcome.complete)
    return _plan(catalogue, bounds, outcome, name, currency)


def _plan(
    catalogue: Catalogue, bounds: Bounds, outcome: Outcome, name: str | None, currency: str
) -> Plan:
    goal = outcome.goals[0]
    found = [
        assemble(catalogue, outcome.values, one, name or AUTO, _description(catalogue))
        for one in outcome.goals
    ]
    chosen = found[0] if name else _named(found[0])
    check(chosen.dag, {f.name: f.offer.interface for f in catalogue.usable})
    others = tuple(
        Alternative(
            functions=tuple(step.function for step in one.steps),
            latency_us=one.latency_us,
            cost_nano=one.cost_nano,
            fits=sum(value.weights) >= sum(goal.weights),
        )
        for one, value in zip(found[1:], outcome.goals[1:], strict=True)
    )
    return Plan(
        dag=chosen.dag,
        steps=chosen.steps,
        latency_us=chosen.latency_us,
        cost_nano=chosen.cost_nano,
        currency=currency,
        explanation=explain(catalogue, bounds, chosen, goal, others, currency, outcome.complete),
        alternatives=others,
        complete=outcome.complete,
    )


def _named(found: Assembled) -> Assembled:
    """Under a name that follows from what it does: the same plan is the same workflow."""
    name = f"{AUTO}-{digest_of(found.dag)[:_DIGITS]}"
    options = replace(found.dag.options, name=name, tags=(AUTO,))
    return replace(found, dag=replace(found.dag, options=options))


def _description(catalogue: Catalogue) -> str:
    request = catalogue.request
    inputs = " and ".join(map(str, request.inputs.values()))
    about = f", about {' '.join(catalogue.words)}" if catalogue.words else ""
    return f"Planned: from {inputs} to {request.output}{about}."
