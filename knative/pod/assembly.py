"""Puts a pod together: a node's parts around one revision, with the control service for books."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from dsfn.billing.sqlite import Checkpointer, connect
from dsfn.functions.errors import BudgetExceeded, StoreUnavailable
from dsfn.functions.values import dataclass
from dsfn.knative.pod.agent import Agent, AgentBooks, AgentSnapshots
from dsfn.knative.pod.control import Control
from dsfn.knative.pod.ending import Ending
from dsfn.knative.pod.events import EventCalls
from dsfn.knative.pod.front import Front
from dsfn.knative.pod.http import HttpClient
from dsfn.knative.pod.log import StandardOutput
from dsfn.knative.pod.metrics import LateMetrics
from dsfn.knative.pod.platform_calls import PlatformCalls
from dsfn.knative.pod.pruning import Pruning
from dsfn.knative.pod.rates import CurrentRates
from dsfn.knative.pod.revision import OneRevision, PulledSnapshots, arena_bytes, as_served
from dsfn.knative.pod.settings import PodSettings
from dsfn.knative.pod.sink import THREADS, EventSink
from dsfn.knative.pod.store import Store
from dsfn.knative.pod.usage import AGENT_PATIENCE_S, CONTROL_PATIENCE_S, SentUsage
from dsfn.runtime.answers import Answers
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.blobs.bucket import BlobBucket
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.config import Limits, Settings
from dsfn.runtime.deploy.environments import Environments
from dsfn.runtime.gateway.request import BodyReader
from dsfn.runtime.gpus.found import find_gpus
from dsfn.runtime.gpus.gpus import Gpus
from dsfn.runtime.invoke import Invoker, new_call_id
from dsfn.runtime.leases.leases import Leases
from dsfn.runtime.logs import LogStore
from dsfn.runtime.model import Call, Payer, Revision
from dsfn.runtime.replicas.caller import PoolCaller
from dsfn.runtime.replicas.launcher import Launcher
from dsfn.runtime.replicas.pools import Pools
from dsfn.runtime.replicas.quarantine import Quarantine
from dsfn.runtime.replicas.soundness import Soundness
from dsfn.runtime.replicas.starter import Starter
from dsfn.runtime.sealing import Sealed
from dsfn.runtime.tiers.copies import Copies
from dsfn.runtime.tiers.opening import open_bucket
from dsfn.runtime.timelines import Timelines
from dsfn.snapshots.store import FileStore

# Rows of calls, and beside them what is in less of a hurry.
CONTROL_THREADS = 2


@dataclass(frozen=True, slots=True)
class Unlimited:
    """`Purse` of a pod: budgets are kept by the control service, for the calls that it makes."""

    usage: SentUsage

    def reserve(self, call: Call, revision: Revision) -> Call:
        """See `Purse`."""
        return call

    def exceeded(self, call: Call) -> BudgetExceeded | None:
        """See `Purse`."""
        return None

    def release(self, call_id: str) -> None:
        """See `Purse`."""
        self.usage.release(call_id)


@dataclass(frozen=True, slots=True)
class Pod:
    """What is started and stopped, beside the application."""

    front: Front
    revision: Revision
    gpus: Gpus
    copies: Copies
    pools: Pools
    usage: SentUsage
    rates: CurrentRates
    blobs: BlobStore
    answers: Answers
    pruning: Pruning
    checkpointer: Checkpointer
    clients: tuple[HttpClient | Agent, ...]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serves inside the block; a replica is started for the call that is about to come."""
        self.rates.start()
        self.gpus.start()
        self.usage.start()
        self.pruning.start()
        self.pools.start()
        self.pools.start_ahead(self.revision)
        try:
            yield
        finally:
            await self.pools.close()
            await self.copies.close()
            await self.pruning.close()
            await self._settle()
            await self.rates.close()
            await self.gpus.close()
            self.blobs.close()
            self.checkpointer.close()
            for client in self.clients:
                client.close()

    async def _settle(self) -> None:
        """Brings the last rows into the books. Of a first answer whose call was told that its row
        could not be written, this is the last chance."""
        with suppress(StoreUnavailable):
            for key, row in list(self.answers.unposted()):
                await self.usage.post(row, kept=True)
                self.answers.posted([key])
        await self.usage.close()


def assemble(settings: PodSettings, revision: Revision, store: Store, launcher: Launcher) -> Pod:
    """The parts of a pod. Nothing runs yet when this is done."""
    clock, data_dir, limits = SystemClock(), settings.data_dir, settings.limits
    gpu = replace(settings.gpu, arena_bytes=arena_bytes(revision))
    node = Settings(data_dir, tenant=settings.tenant, limits=limits, gpu=gpu)
    revisions = OneRevision(as_served(revision))
    gpus = Gpus(find_gpus(gpu.devices), gpu, settings.tenant, limits.queue_timeout_s)
    leases = Leases(clock, new_call_id, gpus.class_of)
    files = FileStore(data_dir / "snapshots")
    agent = _agent(settings)
    copies = Copies(files, store.snapshots, limits.transfer_timeout_s)
    snapshots = _snapshots(agent, PulledSnapshots(copies), limits)
    environments = Environments(data_dir / "environments")
    starter = Starter(
        node,
        leases,
        environments,
        launcher,
        gpus,
        snapshots,
        LogStore(data_dir / "logs", clock, StandardOutput),
        Soundness(data_dir / "snapshots", environments),
        Quarantine(revisions, limits.max_failed_restores, snapshots.refetch),
    )
    pools = Pools(node, clock, revisions, starter)
    blobs = _blobs(settings)
    database = data_dir / "pod.db"
    answers = Answers(connect(database, ""), blobs, clock, Sealed(settings.api_key))
    control = Control(HttpClient(settings.control, CONTROL_THREADS), settings.api_key)
    usage, rates = _usage(control, agent, leases), CurrentRates(control)
    purse, metrics, timelines = Unlimited(usage), LateMetrics(), Timelines()
    caller = PoolCaller(
        pools, blobs, usage, purse, rates.in_force, metrics, timelines, clock, limits
    )
    invoker = Invoker(revisions, caller, usage, purse, answers)
    payer, function = Payer(settings.tenant), revision.function
    sink, ending = _sink(settings), Ending(settings.proxy_port)
    events = EventCalls(function, payer, invoker, clock, sink)
    front = Front(
        revisions.served,
        payer,
        invoker,
        rates,
        BodyReader(limits),
        events,
        PlatformCalls(caller, revisions.served, usage, settings.api_key, ending),
        ending,
        metrics,
        clock,
    )
    return Pod(
        front,
        revisions.served,
        gpus,
        copies,
        pools,
        usage,
        rates,
        blobs,
        answers,
        Pruning(answers),
        Checkpointer(database),
        _clients(control, agent, sink),
    )


def _blobs(settings: PodSettings) -> BlobStore:
    """The blobs on the pod's disk, and those of the control service beyond it."""
    root = settings.data_dir / "blobs"
    if settings.blobs is None:
        return BlobStore(root)
    bucket = open_bucket(settings.blobs)
    return BlobStore(root, BlobBucket(bucket, settings.limits.transfer_timeout_s))


def _clients(
    control: Control, agent: Agent | None, sink: EventSink | None
) -> tuple[HttpClient | Agent, ...]:
    there_or_not = (control.client, agent, sink.client if sink else None)
    return tuple(each for each in there_or_not if each is not None)


def _usage(control: Control, agent: Agent | None, leases: Leases) -> SentUsage:
    if agent is None:
        return SentUsage(control, leases, CONTROL_PATIENCE_S)
    books = AgentBooks(agent)
    return SentUsage(books, leases, AGENT_PATIENCE_S, books)


def _agent(settings: PodSettings) -> Agent | None:
    if settings.agent is None:
        return None
    return Agent(settings.agent, os.urandom(16).hex(), settings.api_key)


def _snapshots(
    agent: Agent | None, pulled: PulledSnapshots, limits: Limits
) -> PulledSnapshots | AgentSnapshots:
    if agent is None or not agent.address.gives_files:
        return pulled
    return AgentSnapshots(agent, pulled.copies.files, pulled, limits.transfer_timeout_s)


def _sink(settings: PodSettings) -> EventSink | None:
    if not settings.sink:
        return None
    return EventSink(HttpClient(settings.sink, THREADS), settings.overrides)
