"""Starts replicas: a worker adopted, GPUs found for it, the function loaded into it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import field
from pathlib import Path
from typing import Protocol

from dsfn.functions.errors import (
    MemoryFull,
    NotFound,
    OwnerLost,
    ReplicaStartFailed,
    SnapshotError,
)
from dsfn.functions.values import dataclass
from dsfn.runtime.brought_back import Stages
from dsfn.runtime.config import Settings
from dsfn.runtime.deploy.environments import Environments
from dsfn.runtime.gpus.gpus import Gpus
from dsfn.runtime.gpus.grip import Grip
from dsfn.runtime.gpus.holding import Holding
from dsfn.runtime.leases.leases import Leases
from dsfn.runtime.logs import LogStore
from dsfn.runtime.model import Revision
from dsfn.runtime.replicas.forkserver import WorkerProcess
from dsfn.runtime.replicas.launcher import Launcher, Nursery
from dsfn.runtime.replicas.quarantine import Quarantine
from dsfn.runtime.replicas.replica import UNPARK_ATTEMPTS, Replica
from dsfn.runtime.replicas.soundness import Soundness
from dsfn.runtime.replicas.warm import WarmPool
from dsfn.runtime.worker.messages import Gpu, Load

Told = Callable[[Replica], None]
# Looking whether a snapshot is there takes less; bringing it from the store takes more.
_WORTH_TELLING_US = 1_000
# By then the node knows that its memory owner has ended, and whoever asks waits for the next one.
_NOTICED_S = 0.1


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told of a replica's life: see `Replica`."""

    released: Told
    parked: Told
    ended: Told


class SnapshotSource(Protocol):
    """Where the snapshots that replicas start from are brought to."""

    async def ensure(self, digest: str) -> Path | None:
        """The directory of a snapshot, None when it cannot be had now.

        Raises `CorruptSnapshot` when it cannot be had at all; `ShuttingDown`.
        """


@dataclass(eq=False)
class Starter:
    """Makes loaded replicas."""

    settings: Settings
    leases: Leases
    environments: Environments
    launcher: Launcher
    gpus: Gpus
    snapshots: SnapshotSource
    logs: LogStore
    soundness: Soundness
    quarantine: Quarantine
    warm: WarmPool = field(init=False)

    def __post_init__(self) -> None:
        self.warm = WarmPool(self.gpus, lambda: self.nursery(""), self.settings.gpu.warm)

    def nursery(self, environment: str) -> Nursery:
        """Where the workers of an environment come from."""
        return self.launcher.nursery(environment, self.environments.python(environment))

    async def start(self, revision: Revision, watch: Watch) -> Replica:
        """A loaded replica, from the revision's snapshot wherever that is. One that cannot be
        had or does not restore is left out: `setup()` runs.

        Raises `ReplicaStartFailed`, `MemoryFull`, `OwnerLost`.
        """
        snapshot, stages = self.quarantine.usable(revision), Stages()
        if snapshot is None:
            return await self._load(revision, watch, None)
        try:
            directory = await self.snapshots.ensure(snapshot.digest)
            stages.ended("start.pull", _WORTH_TELLING_US)
            if directory is None:
                self.quarantine.failed_restores[revision.function] += 1
                return await self._load(revision, watch, None, stages)
            is_sound = await self.soundness.check(revision, snapshot)
            stages.ended("start.check", _WORTH_TELLING_US)
            replica = await self._load(revision, watch, directory, stages)
            replica.is_sound = is_sound
            self.quarantine.restored(snapshot.digest)
            return replica
        except SnapshotError as error:
            self.quarantine.failed(revision, error)
            return await self._load(revision, watch, None)

    async def _load(
        self,
        revision: Revision,
        watch: Watch,
        snapshot: Path | None,
        stages: Stages | None = None,
    ) -> Replica:
        attempts = UNPARK_ATTEMPTS
        while True:
            attempts -= 1
            first, stages = stages or Stages(), None
            try:
                return await self._try(revision, watch, snapshot, first)
            except (MemoryFull, OwnerLost) as error:  # as for `Replica.unpark`
                if not attempts:
                    raise
                if isinstance(error, OwnerLost):
                    await asyncio.sleep(_NOTICED_S)
            except NotFound as error:
                if not attempts:
                    raise _snapshot_gone(revision, error) from error

    async def _try(
        self, revision: Revision, watch: Watch, snapshot: Path | None, stages: Stages
    ) -> Replica:
        grip = await self._grip(revision, snapshot)
        stages.ended("restore.arena")
        worker = self.warm.adopt(grip.devices) if not revision.environment else None
        grip.holding.started = worker is not None
        stages.ended("start.worker")
        async with AsyncExitStack() as ready:
            try:
                taken = grip.taken(self.settings.limits.queue_timeout_s, stages)
                await ready.enter_async_context(taken)
                if worker is None:
                    worker = await self.nursery(revision.environment).adopt()
                    stages.ended("start.worker")
            except BaseException:  # it goes on; what was taken must not stay behind
                grip.forget()
                if worker is not None:
                    worker.kill()
                    worker.close()
                raise
            replica = self._replica(revision, worker, grip, watch)
            message = self._load_message(revision, snapshot, grip.devices)
            await replica.load(self.logs, message, stages)
        return replica

    def _replica(
        self, revision: Revision, worker: WorkerProcess, grip: Grip, watch: Watch
    ) -> Replica:
        return Replica(
            revision,
            worker,
            grip,
            self.leases,
            self.settings.limits,
            released=watch.released,
            parked=watch.parked,
            ended=watch.ended,
        )

    async def _grip(self, revision: Revision, snapshot: Path | None) -> Grip:
        gpu, known = revision.options.gpu, revision.snapshot
        if not gpu:
            return Grip(self.gpus, Holding((), {}, 0))
        workspace_bytes = 0 if known is None else known.workspace_bytes
        holding = await self.gpus.holding(gpu, snapshot, workspace_bytes)
        return Grip(self.gpus, holding)

    def _load_message(
        self, revision: Revision, snapshot: Path | None, gpus: tuple[Gpu, ...]
    ) -> Load:
        directory, limits = self.settings.data_dir, self.settings.limits
        return Load(
            bundle=str(directory / "bundles" / revision.bundle_digest),
            entry=revision.entry,
            function=revision.function,
            revision=revision.id,
            snapshot=str(snapshot) if snapshot else None,
            blobs=str(directory / "blobs"),
            concurrency=revision.options.concurrency,
            memory_bytes=revision.options.memory_bytes,
            env=dict(revision.options.env),
            max_body_bytes=limits.max_body_bytes,
            max_result_bytes=limits.max_result_bytes,
            max_batch=revision.options.max_batch,
            gpus=gpus,
            streams=revision.snapshot is not None and revision.snapshot.streams,
        )


def _snapshot_gone(revision: Revision, error: NotFound) -> ReplicaStartFailed:
    reason = f"what it starts from has gone: {error.message}"
    message = f"A replica of {revision.id} could not be started: {reason}"
    return ReplicaStartFailed(message, reason=reason, retry_after_s=1)
