"""Every pool of a node: made on demand, ticked, retired when nothing serves from them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import field
from typing import Any, TypeVar

from dsfn.functions.errors import ShuttingDown
from dsfn.functions.interface import FilterInterface
from dsfn.functions.values import dataclass
from dsfn.runtime.clock import Clock
from dsfn.runtime.config import Settings
from dsfn.runtime.cpus import CpuShares
from dsfn.runtime.leases.lease import Subject
from dsfn.runtime.model import ReplicaState, Revision
from dsfn.runtime.replicas.pool import Lease, Pool
from dsfn.runtime.replicas.replica import Replica
from dsfn.runtime.replicas.scaler import TICK_S
from dsfn.runtime.replicas.starter import Starter, Watch
from dsfn.runtime.replicas.verifying import VerifiedReplica, verify_replica
from dsfn.runtime.revisions import Revisions
from dsfn.runtime.serving import ReplicaView, Tell

SHRINK_EVERY_S = 0.1

_T = TypeVar("_T")


@dataclass(eq=False)
class Pools:
    """The pools of a node by revision: `Serving` on one machine."""

    outlives_node = False

    settings: Settings
    clock: Clock
    registry: Revisions
    starter: Starter
    shares: CpuShares = field(default_factory=CpuShares)
    _pools: dict[str, Pool] = field(default_factory=dict)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _verifying: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ticker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the background work and the replicas that must always be there."""
        self._ticker = asyncio.create_task(self._tick_forever())
        self._keep_minimums()
        self.starter.nursery("").warm()
        self.starter.warm.start()
        serving = [self.registry.revision(id_) for id_ in sorted(self.registry.serving())]
        for revision in serving:
            self._spawn(self._preload(revision))
        self.starter.soundness.check_ahead(serving)

    async def acquire(self, revision: Revision) -> Lease:
        """A slot of a replica of `revision`. Raises as `Pool.acquire`."""
        pool = self._pools.get(revision.id)
        if pool is None:
            pool = self._pool(revision)
        return await pool.acquire()

    def start_ahead(self, revision: Revision) -> None:
        """Starts a replica of `revision`, a call of which is about to come."""
        self._pool(revision).start_ahead()

    def nowhere(self, revision: Revision) -> Subject:
        """What the row of a call says that no replica of `revision` has seen."""
        device_class = self.starter.gpus.device_class() if revision.options.gpu else "cpu"
        return Subject("", "", 1, device_class, revision.function, revision.id)

    def replicas(self, function: str) -> list[ReplicaView]:
        """The replicas of a function, of every revision."""
        now_s = asyncio.get_running_loop().time()
        return [
            ReplicaView(r.revision.id, r.state, r.worker.pid, max(0.0, now_s - r.used_at_s))
            for pool in self._of(function)
            for r in pool.replicas
        ]

    def state(self, function: str) -> ReplicaState:
        """The state of the function's liveliest replica."""
        pools = self._of(function)
        states = {r.state for pool in pools for r in pool.replicas}
        if any(pool.start_count for pool in pools):
            states.add(ReplicaState.STARTING)
        order = (
            ReplicaState.BUSY,
            ReplicaState.READY,
            ReplicaState.STARTING,
            ReplicaState.PARKED,
            ReplicaState.FROZEN,
        )
        return next((state for state in order if state in states), ReplicaState.ABSENT)

    def counts(self) -> dict[tuple[str, str], int]:
        """Replicas by function and state, for the metrics."""
        found: Counter[tuple[str, str]] = Counter()
        for pool in self._pools.values():
            for replica in pool.replicas:
                found[pool.revision.function, replica.state.value] += 1
        return dict(found)

    def queue_depths(self) -> dict[str, int]:
        """Calls that wait for a replica, by function."""
        found: Counter[str] = Counter()
        for pool in self._pools.values():
            found[pool.revision.function] += pool.queue_depth
        return dict(found)

    def snapshots(self) -> frozenset[str]:
        """The digests of the snapshots that replicas have, or are starting from."""
        live = (p.revision.snapshot for p in self._pools.values() if not p.is_empty())
        return frozenset(snapshot.digest for snapshot in live if snapshot is not None)

    async def bring_up(self, revisions: Sequence[Revision], tell: Tell) -> None:
        """See `Serving`. Replicas are started for calls, which have not come yet."""

    async def reconcile(self) -> None:
        """See `Serving`."""
        self.retire()

    def require_filter(self, filter_: FilterInterface, function: str) -> None:
        """See `Serving`: the router knows all filters."""

    def retire(self) -> None:
        """See `Serving`: that are revisions that have no traffic and no run is pinned to."""
        needed = self._needed()
        for revision_id, pool in self._pools.items():
            pool.retired = revision_id not in needed
            known = self.registry.find(revision_id)
            if known is not None:  # its snapshot may have been made anew
                pool.revision = known
            pool.note_kept()
        self._keep_minimums()

    async def rest(self, function: str, to: ReplicaState) -> int:
        """Has the function's idle replicas give up what they hold; how many did."""
        return sum([await pool.rest(to) for pool in self._of(function)])

    async def verify(self, function: str) -> list[VerifiedReplica]:
        """Compares what the function's replicas have in memory with what was captured, in one
        after the other, so that the rest serve; see `verify_replica`."""
        # A replica that is being looked at must come back, whoever asked and has gone.
        return await asyncio.shield(self._track(self._verify_all(function)))

    def url(self, function: str, here: str) -> str | None:
        """See `Serving`: functions are called by the node."""
        return here

    def spares(self) -> list[int]:
        """See `Serving`."""
        return self.starter.warm.counts()

    def cut_off(self) -> None:
        """Ends every call that runs or waits, since the node will not wait for it any longer."""
        error = ShuttingDown("The node stopped before the call had ended.", retry_after_s=5)
        for pool in self._pools.values():
            pool.cut_off(error)

    async def close(self) -> None:
        """Ends every replica."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        await asyncio.gather(*(pool.stop() for pool in self._pools.values()))
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self.settings.limits.cancel_grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self.starter.warm.close()
        await self.starter.soundness.close()
        await self.starter.quarantine.close()
        await self.starter.launcher.close()

    def _of(self, function: str) -> list[Pool]:
        return [p for p in self._pools.values() if p.revision.function == function]

    def _pool(self, revision: Revision) -> Pool:
        pool = self._pools.get(revision.id)
        if pool is None:
            queue_timeout_s = self.settings.limits.queue_timeout_s
            pool = Pool(
                revision,
                self.clock,
                self._launch,
                self._spawn,
                queue_timeout_s,
                self.shares,
                self.settings.tenant,
            )
            pool.retired = revision.id not in self._needed()
            self._pools[revision.id] = pool
        return pool

    def _needed(self) -> Collection[str]:
        serving = self.registry.serving()
        if all(revision_id in serving for revision_id in self._pools):
            return serving
        return serving | frozenset(self.registry.pinned())

    def _keep_minimums(self) -> None:
        for revision_id in self.registry.serving():
            revision = self.registry.revision(revision_id)
            if revision.options.min_replicas > 0:
                self._pool(revision).tick()

    async def _preload(self, revision: Revision) -> None:
        if revision.modules:
            await self.starter.nursery(revision.environment).preload(list(revision.modules))

    async def _tick_forever(self) -> None:
        loop = asyncio.get_running_loop()
        scale_at_s = loop.time() + TICK_S
        while True:
            await asyncio.sleep(SHRINK_EVERY_S)
            now_s = loop.time()
            scales = now_s >= scale_at_s
            if scales:
                scale_at_s = now_s + TICK_S
            for pool in list(self._pools.values()):
                if scales:
                    pool.tick()
                pool.shrink(now_s)
            if scales:
                await self._drop_retired()

    async def _drop_retired(self) -> None:
        for revision_id, pool in list(self._pools.items()):
            if pool.retired and pool.is_empty():
                del self._pools[revision_id]
        used = {pool.revision.environment for pool in self._pools.values()}
        used |= {self.registry.revision(r).environment for r in self.registry.serving()}
        await self.starter.launcher.keep(frozenset(used | {""}))

    async def _launch(self, pool: Pool) -> Replica:
        watch = Watch(pool.released, pool.parked, pool.ended)
        return await self.starter.start(pool.revision, watch)

    async def _verify_all(self, function: str) -> list[VerifiedReplica]:
        async with self._verifying:
            return [
                await self._verify(pool, replica)
                for pool in self._of(function)
                for replica in list(pool.replicas)
                if replica in pool.replicas  # still
            ]

    async def _verify(self, pool: Pool, replica: Replica) -> VerifiedReplica:
        found = await verify_replica(replica)
        snapshot = replica.revision.snapshot
        if found.is_intact is False and snapshot is not None:
            self.starter.soundness.distrust(snapshot)
        pool.serve_waiting()
        return found

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._track(work)

    def _track(self, work: Coroutine[None, None, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
