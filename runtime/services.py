"""What a node is made of, in one value that its routes are given."""

from __future__ import annotations

from dsfn.billing.months import Months
from dsfn.billing.rates import RateStore
from dsfn.billing.spooled_ledger import SpooledLedger
from dsfn.functions.values import dataclass
from dsfn.runtime.access import Access
from dsfn.runtime.advising import Adviser
from dsfn.runtime.answers import Answers
from dsfn.runtime.backlog import Backlog
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.blobs.owners import BlobOwners
from dsfn.runtime.blobs.sweep import Sweeper
from dsfn.runtime.budgets import Budgets
from dsfn.runtime.canaries.canaries import Canaries
from dsfn.runtime.clock import Clock
from dsfn.runtime.closing import Closer
from dsfn.runtime.config import Settings
from dsfn.runtime.deploy.environments import Environments
from dsfn.runtime.deploy.pipeline import Pipeline
from dsfn.runtime.events.dead import DeadLetters
from dsfn.runtime.events.dispatcher import Dispatcher
from dsfn.runtime.events.queue import Queue
from dsfn.runtime.events.router import Router
from dsfn.runtime.events.subscriptions import Subscriptions
from dsfn.runtime.gateway.metrics import Metrics
from dsfn.runtime.gateway.request import BodyReader
from dsfn.runtime.gpus.gpus import Gpus
from dsfn.runtime.invoke import Invoker
from dsfn.runtime.logs import Logs
from dsfn.runtime.metering import Meter
from dsfn.runtime.notary.notary import Notary
from dsfn.runtime.outbox.outbox import Outbox
from dsfn.runtime.registry import Registry
from dsfn.runtime.serving import Serving
from dsfn.runtime.tiers.catalogue import Catalogue
from dsfn.runtime.tiers.tiers import SnapshotTiers
from dsfn.runtime.timelines import Timelines
from dsfn.runtime.workflows.cache import ResultCache
from dsfn.runtime.workflows.engine import Engine
from dsfn.runtime.workflows.planner import Planner
from dsfn.runtime.workflows.registry import WorkflowRegistry
from dsfn.runtime.workflows.schedules import Schedules
from dsfn.runtime.workflows.starter import Starter
from dsfn.runtime.writer import Writer


@dataclass(slots=True)
class Life:
    """Where the node is in its life; the one thing about it that changes."""

    started_at_us: int
    accepts_calls: bool = False


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a node."""

    settings: Settings
    clock: Clock
    life: Life
    access: Access
    registry: Registry
    pipeline: Pipeline
    canaries: Canaries
    gpus: Gpus
    tiers: SnapshotTiers
    catalogue: Catalogue
    environments: Environments
    serving: Serving
    invoker: Invoker
    bodies: BodyReader
    blobs: BlobStore
    owners: BlobOwners
    sweeper: Sweeper
    logs: Logs
    queue: Queue
    subscriptions: Subscriptions
    router: Router
    dead: DeadLetters
    dispatcher: Dispatcher
    workflows: WorkflowRegistry
    runs: Engine
    starter: Starter
    planner: Planner
    schedules: Schedules
    answers: Answers
    results: ResultCache
    ledger: SpooledLedger
    writer: Writer
    backlog: Backlog
    meter: Meter
    notary: Notary
    rates: RateStore
    budgets: Budgets
    outbox: Outbox
    adviser: Adviser
    months: Months
    closer: Closer
    metrics: Metrics
    timelines: Timelines
