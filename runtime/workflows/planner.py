"""Plans of a node: what its functions are, and what its ledger says of each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import field
from statistics import median_low

from dsfn.billing.ledger import Ledger, RecentCall
from dsfn.billing.rates import Rate, RateCard
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.planning.model import UNMEASURED_US, Estimate, Offer, Plan, Request
from dsfn.functions.workflow.planning.plan import AUTO, make_plan
from dsfn.runtime.registry import Registry
from dsfn.runtime.registry.values import FunctionRecord
from dsfn.runtime.workflows.linker import Linker
from dsfn.runtime.workflows.model import WorkflowRevision
from dsfn.runtime.workflows.registry import WorkflowRegistry

# The calls that an estimate is made from.
MAX_RECENT_CALLS = 100
# Workflows that nobody gave a name; beyond these the one that was used least recently goes.
MAX_AUTO_WORKFLOWS = 64

_AUTO_NAME = re.compile(rf"{AUTO}-[0-9a-f]{{8}}")


@dataclass(eq=False)
class Planner:
    """Plans, and keeps plans as workflows."""

    registry: Registry
    workflows: WorkflowRegistry
    linker: Linker
    ledger: Ledger
    in_force: Callable[[], RateCard]
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _used: dict[str, None] = field(default_factory=dict)

    async def plan(self, request: Request, name: str | None = None) -> Plan:
        """The best plan of the functions that are deployed now. One is made at a time, beside
        the event loop.

        Raises `NoPlan`, `InvalidInput`, and `DefinitionError` for a name that is none.
        """
        records = self.registry.functions()
        async with self._turn:
            return await asyncio.to_thread(self._plan, request, records, name)

    def save(self, plan: Plan) -> WorkflowRevision:
        """Has a plan serve as a workflow of its name. Raises `DefinitionError`, `StorageFull`."""
        (revision,) = self.linker.link([plan.dag], {})
        return self.keep(revision)

    def keep(self, revision: WorkflowRevision) -> WorkflowRevision:
        """Has a revision serve, which may have been forgotten meanwhile. Raises `StorageFull`."""
        name = revision.workflow
        if not self.workflows.has(name) or self.workflows.find(name).id != revision.id:
            self.workflows.register(revision)
        if is_auto(revision):
            self._use(name)
        return revision

    def _plan(self, request: Request, records: Sequence[FunctionRecord], name: str | None) -> Plan:
        recent = self.ledger.recent((record.name for record in records), MAX_RECENT_CALLS)
        card = self.in_force()
        offers = [offer_of(record, recent[record.name], card) for record in records]
        return make_plan(request, offers, name, card.currency)

    def _use(self, name: str) -> None:
        """Notes that a plan is used, and forgets the plan that was not for the longest time."""
        self._used.pop(name, None)
        self._used[name] = None
        kept = [r for r in self.workflows.all() if is_auto(r) and r.workflow != name]
        order = {used: at for at, used in enumerate(self._used)}
        kept.sort(key=lambda r: (order.get(r.workflow, -1), r.created_at_us))
        for surplus in kept[: max(0, len(kept) + 1 - MAX_AUTO_WORKFLOWS)]:
            self.workflows.delete(surplus.workflow)
        self._used = {used: None for used in self._used if self.workflows.has(used)}


def offer_of(record: FunctionRecord, recent: Sequence[RecentCall], card: RateCard) -> Offer:
    """A deployed function as plans see it; `recent` are its last calls."""
    revision = record.current
    options = revision.options
    return Offer(
        name=record.name,
        interface=revision.interface,
        estimate=estimate_of(recent, revision.id, card, on_gpu=options.gpu > 0),
        tags=options.tags,
        revision=revision.id,
        lanes=options.max_replicas * options.concurrency,
    )


def estimate_of(
    recent: Sequence[RecentCall], revision: str, card: RateCard, on_gpu: bool
) -> Estimate:
    """What a call is expected to take, by the last calls of this revision; while it has none,
    by those of the function's other revisions."""
    calls = [call for call in recent if call.revision == revision] or list(recent)
    done = [call for call in calls if call.status == "succeeded"]
    failed_share = 1 - len(done) / len(calls) if calls else 0.0
    if not done:
        rate: Rate = card.default if on_gpu else card.rate("cpu")
        cost_nano = rate.cost_nano(UNMEASURED_US, UNMEASURED_US, 0)
        return Estimate(UNMEASURED_US, cost_nano, failed_share=failed_share)
    cold = [call.restore_us for call in done if call.restore_us]
    warm = [call.held_us for call in done if not call.restore_us]
    costs = [card.rate(c.device_class).cost_nano(c.busy_us, c.held_us, c.restore_us) for c in done]
    return Estimate(
        held_us=median_low(warm or [call.held_us for call in done]),
        cost_nano=round(sum(costs) / len(costs)),
        calls=len(done),
        cold_share=len(cold) / len(done),
        restore_us=round(sum(cold) / len(cold)) if cold else 0,
        failed_share=failed_share,
        device_class=done[0].device_class,
    )


def is_auto(revision: WorkflowRevision) -> bool:
    """Whether a workflow has the name that it was given here."""
    is_named = _AUTO_NAME.fullmatch(revision.workflow) is not None
    return is_named and AUTO in revision.dag.options.tags
