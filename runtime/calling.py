"""Where functions run, and how they are called there: what differs between a node and a cluster."""

from __future__ import annotations

from collections.abc import Callable

import apsw

from dsfn.billing.rates import RateCard
from dsfn.functions.values import dataclass
from dsfn.runtime.access.access import new_local_key
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.budgets import Budgets
from dsfn.runtime.clock import Clock
from dsfn.runtime.config import Settings
from dsfn.runtime.deploy.confinement import Confinement
from dsfn.runtime.deploy.environments import Environments
from dsfn.runtime.gateway.metrics import Metrics
from dsfn.runtime.invoke import Caller
from dsfn.runtime.logs import Logs, LogStore
from dsfn.runtime.metering import Meter, UsageSink
from dsfn.runtime.registry import Registry
from dsfn.runtime.replicas.caller import PoolCaller
from dsfn.runtime.replicas.pools import Pools
from dsfn.runtime.replicas.starter import Starter
from dsfn.runtime.serving import Serving
from dsfn.runtime.tiers.tiers import SnapshotTiers
from dsfn.runtime.timelines import Timelines
from dsfn.runtime.workflows.books import Post


@dataclass(frozen=True, slots=True)
class Around:
    """The parts of a node that a place for functions may need. `connection`: the one that writes to
    its database."""

    settings: Settings
    clock: Clock
    connection: apsw.Connection
    registry: Registry
    replicas: Starter
    tiers: SnapshotTiers
    environments: Environments
    blobs: BlobStore
    budgets: Budgets
    meter: Meter
    in_force: Callable[[], RateCard]
    metrics: Metrics
    timelines: Timelines
    logs: LogStore


@dataclass(frozen=True, slots=True)
class Place:
    """A place where functions run. `usage`: where the rows of its calls go, `post` those of the
    calls of runs, which are written later. `key`: with which it may ask the node for everything.
    `logs`: of what functions print there. `has_gpus`: of its own, beside the node's.
    `confinement`: of code of functions that runs beside the node nevertheless, to be deployed."""

    serving: Serving
    caller: Caller
    usage: UsageSink
    post: Post
    key: str
    logs: Logs
    has_gpus: bool = False
    confinement: Confinement | None = None


MakePlace = Callable[[Around], Place]


def on_this_node(around: Around) -> Place:
    """Functions run in the node's own replicas."""
    settings, clock, budgets = around.settings, around.clock, around.budgets
    pools = Pools(settings, clock, around.registry, around.replicas)
    caller = PoolCaller(
        pools,
        around.blobs,
        around.meter,
        budgets,
        around.in_force,
        around.metrics,
        around.timelines,
        clock,
        settings.limits,
    )
    return Place(pools, caller, around.meter, around.meter.post_kept, new_local_key(), around.logs)
