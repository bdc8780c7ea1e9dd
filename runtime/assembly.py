"""Puts the parts of a node together. Nothing runs yet when this is done."""

from __future__ import annotations

from collections.abc import Callable, Collection

import apsw

from dsfn.billing.ledger import Ledger
from dsfn.billing.months import Months
from dsfn.billing.parties import read_parties
from dsfn.billing.rates import RateCard, RateStore, configured_card
from dsfn.billing.signing import FILE_NAME as KEY_FILE
from dsfn.billing.signing import SigningKey
from dsfn.billing.spooled_ledger import SpooledLedger
from dsfn.runtime.access import Access, Keys
from dsfn.runtime.advising import Adviser
from dsfn.runtime.answers import Answers, blobs_of_answers
from dsfn.runtime.backlog import Backlog
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.blobs.opening import open_blobs
from dsfn.runtime.blobs.owners import BlobOwners
from dsfn.runtime.blobs.sweep import Sweeper
from dsfn.runtime.budgets import Budgets
from dsfn.runtime.budgets.alerts import Alerts
from dsfn.runtime.budgets.store import BudgetStore
from dsfn.runtime.calling import Around, MakePlace, Place, on_this_node
from dsfn.runtime.canaries.canaries import Canaries
from dsfn.runtime.canaries.store import CanaryStore
from dsfn.runtime.clock import Clock
from dsfn.runtime.closing import Closer
from dsfn.runtime.config import Settings
from dsfn.runtime.deploy.environments import Environments
from dsfn.runtime.deploy.pipeline import Pipeline
from dsfn.runtime.events.dead import DeadLetters
from dsfn.runtime.events.dispatcher import Dispatcher
from dsfn.runtime.events.outcomes import Outcomes
from dsfn.runtime.events.queue import Queue, blobs_of_deliveries
from dsfn.runtime.events.router import Router
from dsfn.runtime.events.subscriptions import Subscriptions
from dsfn.runtime.gateway.metrics import Gauges, Metrics
from dsfn.runtime.gateway.request import BodyReader
from dsfn.runtime.gpus.found import find_gpus
from dsfn.runtime.gpus.gpus import Gpus
from dsfn.runtime.invoke import Invoker, new_call_id
from dsfn.runtime.leases.leases import Leases
from dsfn.runtime.ledgers import writer_of
from dsfn.runtime.logs import LogStore
from dsfn.runtime.metering import Meter
from dsfn.runtime.notary.notary import Notary
from dsfn.runtime.notary.places import open_place
from dsfn.runtime.outbox.cursors import Cursors
from dsfn.runtime.outbox.outbox import Outbox, Sender
from dsfn.runtime.registry import Registry
from dsfn.runtime.replicas.jobs import Jobs
from dsfn.runtime.replicas.launcher import Launcher
from dsfn.runtime.replicas.quarantine import Quarantine
from dsfn.runtime.replicas.soundness import Soundness
from dsfn.runtime.replicas.starter import Starter as ReplicaStarter
from dsfn.runtime.services import Life, Services
from dsfn.runtime.serving import Serving
from dsfn.runtime.state import FILE_NAME as STATE_FILE
from dsfn.runtime.tiers.catalogue import Catalogue
from dsfn.runtime.tiers.copies import Copies
from dsfn.runtime.tiers.disk import Disk
from dsfn.runtime.tiers.opening import open_store
from dsfn.runtime.tiers.pruner import Pruner
from dsfn.runtime.tiers.records import Records
from dsfn.runtime.tiers.tiers import SnapshotTiers
from dsfn.runtime.timelines import Timelines
from dsfn.runtime.workflows.cache import ResultCache, blobs_of_cached_results
from dsfn.runtime.workflows.engine import Engine
from dsfn.runtime.workflows.linker import Linker
from dsfn.runtime.workflows.pins import Pins
from dsfn.runtime.workflows.planner import Planner
from dsfn.runtime.workflows.prices import Prices, prices_of
from dsfn.runtime.workflows.registry import WorkflowRegistry
from dsfn.runtime.workflows.schedules import Schedules
from dsfn.runtime.workflows.starter import Starter
from dsfn.runtime.workflows.store import references as blobs_of_runs
from dsfn.runtime.workflows.surroundings import Surroundings
from dsfn.runtime.workflows.triggers import Triggers
from dsfn.runtime.writer import Writer, alone, post_apart
from dsfn.snapshots.store import FileStore

# Every part of the node's database that refers to blobs: what none of them names is removed.
BLOB_OWNERS = (blobs_of_answers, blobs_of_deliveries, blobs_of_cached_results, blobs_of_runs)


def assemble(
    settings: Settings,
    clock: Clock,
    connection: apsw.Connection,
    ledger: SpooledLedger,
    make_place: MakePlace = on_this_node,
) -> Services:
    """The parts over a node's two databases. Raises `UsageError` for rates that make no sense."""
    data_dir = settings.data_dir
    card = configured_card(settings.billing)
    places = [open_place(each) for each in settings.checkpoints]
    key = SigningKey.open(data_dir / KEY_FILE)
    writer = writer_of(settings)
    notary = Notary(writer, ledger, key, places, clock, data_dir)
    rates = RateStore(ledger.cards(), card, clock.now_us(), lambda: ledger.closed_until_us)
    parties = read_parties(settings.invoices)
    months = Months(ledger, lambda: rates.book, parties, key, notary.sign)
    in_force = _in_force(rates, clock)
    blobs, logs = open_blobs(settings), LogStore(data_dir / "logs")
    registry = Registry(connection, clock)
    environments = Environments(data_dir / "environments")
    found, patience_s = find_gpus(settings.gpu.devices), settings.limits.queue_timeout_s
    gpus = Gpus(found, settings.gpu, settings.tenant, patience_s)
    launcher = Launcher(settings.limits.spares, bool(gpus), settings.libraries)
    leases = Leases(clock, new_call_id, gpus.class_of)
    tiers = _tiers(settings, clock, connection, registry, lambda: serving.snapshots())
    tiers.promote = gpus.promote
    tiers.above = lambda digest: gpus.tiers_of(data_dir / "snapshots" / digest)
    gpus.keep(tiers.records.pinned)
    soundness = Soundness(data_dir / "snapshots", environments)
    quarantine = Quarantine(registry, settings.limits.max_failed_restores, tiers.refetch)
    replicas = ReplicaStarter(
        settings, leases, environments, launcher, gpus, tiers, logs, soundness, quarantine
    )
    answers, metrics, timelines = Answers(connection, blobs, clock), Metrics(), Timelines()
    queue, results = Queue(connection, blobs, clock), ResultCache(connection, clock)
    workflows = WorkflowRegistry(connection, clock)
    subscriptions, owners = Subscriptions(registry, workflows), BlobOwners(connection, clock)
    router = _router(settings, clock, connection, subscriptions, blobs, queue, owners)
    prices = prices_of(in_force, settings.limits, gpus.device_class)
    budgets = _budgets(connection, clock, writer, ledger, rates, prices, router, settings.tenant)
    meter = Meter(writer, ledger, ledger.post_soon, budgets, leases)
    place = make_place(
        Around(
            settings,
            clock,
            connection,
            registry,
            replicas,
            tiers,
            environments,
            blobs,
            budgets,
            meter,
            in_force,
            metrics,
            timelines,
            logs,
        )
    )
    serving = place.serving
    canaries = Canaries(CanaryStore(connection), registry, ledger, serving.reconcile, clock)
    invoker = Invoker(registry, place.caller, place.usage, budgets, answers)
    runs = Engine(
        Surroundings(
            connection,
            clock,
            blobs,
            router,
            results,
            invoker.run,
            registry.revision,
            workflows.revision,
            place.post,
            lambda rows: post_apart(ledger.post, [alone(row) for row in rows]),
            prices,
            new_call_id,
            settings.limits.max_body_bytes,
        )
    )
    registry.pinned, workflows.in_use = runs.store.pinned, runs.store.workflow_revisions
    starter = Starter(
        workflows, Pins(registry), blobs, clock, new_call_id, settings.limits.max_body_bytes
    )
    outbox = _outbox(settings, connection, ledger)
    metrics.watch(lambda: _gauges(serving, quarantine, queue, runs, outbox, notary, ledger))
    return Services(
        settings=settings,
        clock=clock,
        life=Life(clock.now_us()),
        access=Access(Keys(connection, clock), settings.tenant, settings.auth.required, place.key),
        registry=registry,
        pipeline=_pipeline(
            settings,
            clock,
            registry,
            workflows,
            environments,
            Jobs(launcher, gpus, leases, place.confinement),
            gpus,
            tiers,
            soundness,
            place,
            canaries,
        ),
        canaries=canaries,
        gpus=gpus,
        tiers=tiers,
        catalogue=Catalogue(tiers, registry),
        environments=environments,
        serving=serving,
        invoker=invoker,
        bodies=BodyReader(settings.limits),
        blobs=blobs,
        owners=owners,
        sweeper=Sweeper(blobs, data_dir / STATE_FILE, BLOB_OWNERS),
        logs=place.logs,
        queue=queue,
        subscriptions=subscriptions,
        router=router,
        dead=DeadLetters(connection, queue, blobs, clock),
        dispatcher=Dispatcher(
            queue,
            Outcomes(connection, queue, router, blobs, clock, registry),
            blobs,
            invoker.invoke,
            Triggers(starter, runs, rates.book.currency).start,
            clock,
            sweeps=(
                queue.prune,
                router.prune,
                answers.prune,
                results.prune,
                runs.store.prune,
                workflows.prune,
                owners.prune,
                lambda: _release(registry, serving),
            ),
        ),
        workflows=workflows,
        runs=runs,
        starter=starter,
        planner=Planner(registry, workflows, Linker(registry, workflows), ledger, in_force),
        schedules=Schedules(connection, workflows, starter, runs, router, clock, settings.tenant),
        answers=answers,
        results=results,
        ledger=ledger,
        writer=writer,
        # Whatever a commit takes, rows come to the spool meanwhile.
        backlog=Backlog(ledger, writer_of(settings)),
        meter=meter,
        notary=notary,
        rates=rates,
        budgets=budgets,
        outbox=outbox,
        adviser=Adviser(registry, tiers.disk.files, ledger, lambda: rates.book),
        months=months,
        closer=Closer(months, writer, clock, meter.flush),
        metrics=metrics,
        timelines=timelines,
    )


def _release(registry: Registry, serving: Serving) -> int:
    """Lets go of revisions that runs were pinned to, once none is; how many were forgotten."""
    forgotten = registry.release()
    serving.retire()
    return forgotten


def _outbox(settings: Settings, connection: apsw.Connection, ledger: Ledger) -> Outbox:
    cursors = Cursors(connection)
    return Outbox([Sender(sink, ledger, cursors) for sink in settings.outbox])


def _in_force(rates: RateStore, clock: Clock) -> Callable[[], RateCard]:
    """Gives the rate card in force now."""
    return lambda: rates.book.at(clock.now_us())


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


def _budgets(
    connection: apsw.Connection,
    clock: Clock,
    writer: Writer,
    ledger: SpooledLedger,
    rates: RateStore,
    prices: Prices,
    router: Router,
    tenant: str,
) -> Budgets:
    store = BudgetStore(connection)
    alerts = Alerts(connection, store, router, clock, tenant, prices.currency)
    return Budgets(
        writer,
        store,
        ledger,
        ledger.post_soon,
        lambda: rates.book,
        prices.at_most,
        alerts,
        clock,
    )


def _router(
    settings: Settings,
    clock: Clock,
    connection: apsw.Connection,
    subscriptions: Subscriptions,
    blobs: BlobStore,
    queue: Queue,
    owners: BlobOwners,
) -> Router:
    return Router(
        connection,
        queue,
        blobs,
        clock,
        subscriptions.all,
        new_call_id,
        settings.tenant,
        settings.limits.max_body_bytes,
        owners.add,
    )


def _pipeline(
    settings: Settings,
    clock: Clock,
    registry: Registry,
    workflows: WorkflowRegistry,
    environments: Environments,
    jobs: Jobs,
    gpus: Gpus,
    tiers: SnapshotTiers,
    soundness: Soundness,
    place: Place,
    canaries: Canaries,
) -> Pipeline:
    return Pipeline(
        settings.data_dir / "bundles",
        tiers,
        environments,
        registry,
        jobs,
        gpus,
        soundness,
        clock,
        Linker(registry, workflows),
        canaries,
        place.serving.bring_up,
        place.has_gpus,
        place.confinement,
        settings.limits.discover_timeout_s,
        settings.limits.setup_timeout_s,
    )


def _gauges(
    serving: Serving,
    quarantine: Quarantine,
    queue: Queue,
    runs: Engine,
    outbox: Outbox,
    notary: Notary,
    ledger: SpooledLedger,
) -> Gauges:
    return Gauges(
        replicas=serving.counts(),
        queued_calls=serving.queue_depths(),
        failed_restores=quarantine.failed_restores,
        events_queued=queue.queued_count(),
        events_dead=queue.dead_count(),
        runs_under_way=runs.under_way(),
        steps_under_way=runs.calls_under_way(),
        runs_ended=runs.ended(),
        outbox_pending={each.sink.name: each.pending for each in outbox.senders},
        outbox_failures={each.sink.name: each.failures for each in outbox.senders},
        ledger_problems=notary.problems,
        ledger_waiting=ledger.rows_waiting,
    )
