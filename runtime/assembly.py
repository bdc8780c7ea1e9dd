"""Puts the parts of a node together. Nothing runs yet when this is done."""

from __future__ import annotations

from collections.abc import Callable, Collection

import apsw

from dsfn.billing.ledger import SqliteLedger
from dsfn.billing.rates import RateCard
from dsfn.runtime.answers import Answers, blobs_of_answers
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.blobs.opening import open_blobs
from dsfn.runtime.blobs.sweep import Sweeper
from dsfn.runtime.clock import Clock
from dsfn.runtime.config import Settings
from dsfn.runtime.deploy.environments import Environments
from dsfn.runtime.deploy.pipeline import Pipeline
from dsfn.runtime.events.dispatcher import Dispatcher
from dsfn.runtime.events.outcomes import Outcomes
from dsfn.runtime.events.queue import Queue, blobs_of_deliveries
from dsfn.runtime.events.router import Router
from dsfn.runtime.gateway.metrics import Gauges, Metrics
from dsfn.runtime.gateway.request import BodyReader
from dsfn.runtime.gpus.found import find_gpus
from dsfn.runtime.gpus.gpus import Gpus
from dsfn.runtime.invoke import Invoker, new_call_id
from dsfn.runtime.logs import LogStore
from dsfn.runtime.metering import Meter
from dsfn.runtime.registry import Registry
from dsfn.runtime.replicas.jobs import Jobs
from dsfn.runtime.replicas.launcher import Launcher
from dsfn.runtime.replicas.pools import Pools
from dsfn.runtime.replicas.quarantine import Quarantine
from dsfn.runtime.replicas.soundness import Soundness
from dsfn.runtime.replicas.starter import Starter
from dsfn.runtime.services import Life, Services
from dsfn.runtime.tiers.catalogue import Catalogue
from dsfn.runtime.tiers.copies import Copies
from dsfn.runtime.tiers.disk import Disk
from dsfn.runtime.tiers.opening import open_store
from dsfn.runtime.tiers.pruner import Pruner
from dsfn.runtime.tiers.records import Records
from dsfn.runtime.tiers.tiers import SnapshotTiers
from dsfn.runtime.timelines import Timelines
from dsfn.runtime.workflows.cache import ResultCache, blobs_of_cached_results
from dsfn.snapshots.store import FileStore

# Every part of the node's database that refers to blobs: what none of them names is removed.
BLOB_OWNERS = (blobs_of_answers, blobs_of_deliveries, blobs_of_cached_results)


def assemble(
    settings: Settings, url: str, clock: Clock, connection: apsw.Connection, ledger: SqliteLedger
) -> Services:
    """The parts over a node's two databases. Raises `UsageError` for rates that make no sense."""
    data_dir = settings.data_dir
    card = RateCard.from_document(settings.billing)
    blobs, logs = open_blobs(settings), LogStore(data_dir / "logs")
    registry = Registry(connection, clock)
    environments = Environments(data_dir / "environments")
    gpus = Gpus(find_gpus(settings.gpu.devices), settings.gpu, settings.tenant)
    launcher = Launcher(settings.limits.spares, bool(gpus))
    tiers = _tiers(settings, clock, connection, registry, lambda: pools.snapshots())
    tiers.promote = gpus.promote
    tiers.above = lambda digest: gpus.tiers_of(data_dir / "snapshots" / digest)
    gpus.keep(tiers.records.pinned)
    soundness = Soundness(data_dir / "snapshots", environments)
    quarantine = Quarantine(registry, settings.limits.max_failed_restores, tiers.refetch)
    starter = Starter(
        settings, clock, environments, launcher, gpus, tiers, logs, soundness, quarantine
    )
    pools = Pools(settings, clock, registry, starter)
    answers, metrics, timelines = Answers(connection, blobs, clock), Metrics(), Timelines()
    invoker = Invoker(
        registry,
        pools,
        blobs,
        Meter(ledger),
        card,
        answers,
        metrics,
        timelines,
        clock,
        settings.limits,
    )
    queue, results = Queue(connection, blobs, clock), ResultCache(connection, clock)
    router = _router(settings, clock, connection, registry, blobs, queue)
    metrics.watch(lambda: _gauges(pools, queue))
    return Services(
        settings=settings,
        clock=clock,
        life=Life(url, clock.now_us()),
        registry=registry,
        pipeline=_pipeline(
            settings, clock, registry, environments, launcher, gpus, tiers, soundness
        ),
        gpus=gpus,
        tiers=tiers,
        catalogue=Catalogue(tiers, registry),
        environments=environments,
        pools=pools,
        invoker=invoker,
        bodies=BodyReader(settings.limits),
        blobs=blobs,
        sweeper=Sweeper(blobs, data_dir / "node.db", BLOB_OWNERS),
        logs=logs,
        queue=queue,
        router=router,
        dispatcher=Dispatcher(
            queue,
            Outcomes(connection, queue, router, blobs, clock),
            blobs,
            invoker.invoke,
            clock,
            sweeps=(queue.prune, router.prune, answers.prune, results.prune),
        ),
        answers=answers,
        results=results,
        ledger=ledger,
        card=card,
        metrics=metrics,
        timelines=timelines,
    )


def _tiers(
    settings: Settings,
    clock: Clock,
    connection: apsw.Connection,
    registry: Registry,
    in_use: Callable[[], Collection[str]],
) -> SnapshotTiers:
    files, records = FileStore(settings.data_dir / "snapshots"), Records(connection)
    store = open_store(settings.snapshots)
    copies = Copies(files, store, settings.limits.transfer_timeout_s) if store else None
    disk, max_disk_bytes = Disk(files), settings.snapshots.max_disk_bytes
    pruner = Pruner(disk, records, registry, clock, copies, max_disk_bytes, in_use)
    return SnapshotTiers(disk, records, pruner, clock, copies)


def _router(
    settings: Settings,
    clock: Clock,
    connection: apsw.Connection,
    registry: Registry,
    blobs: BlobStore,
    queue: Queue,
) -> Router:
    return Router(
        connection,
        queue,
        blobs,
        clock,
        registry.subscriptions,
        new_call_id,
        settings.tenant,
        settings.limits.max_body_bytes,
    )


def _pipeline(
    settings: Settings,
    clock: Clock,
    registry: Registry,
    environments: Environments,
    launcher: Launcher,
    gpus: Gpus,
    tiers: SnapshotTiers,
    soundness: Soundness,
) -> Pipeline:
    return Pipeline(
        settings.data_dir / "bundles",
        tiers,
        environments,
        registry,
        Jobs(launcher, gpus),
        gpus,
        soundness,
        clock,
        settings.limits.discover_timeout_s,
        settings.limits.setup_timeout_s,
    )


def _gauges(pools: Pools, queue: Queue) -> Gauges:
    return Gauges(
        replicas=pools.counts(),
        queued_calls=pools.queue_depths(),
        failed_restores=pools.starter.quarantine.failed_restores,
        events_queued=queue.queued_count(),
        events_dead=queue.dead_count(),
    )
