"""The replicas of one revision and the calls that wait for them."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

from dsfn.functions.errors import (
    DsfnError,
    MemoryFull,
    QueueFull,
    QueueTimeout,
    ReplicaStartFailed,
    ShuttingDown,
)
from dsfn.runtime.brought_back import Parts
from dsfn.runtime.clock import Clock
from dsfn.runtime.cpus import CpuShares
from dsfn.runtime.leases import Slot
from dsfn.runtime.model import ReplicaState, Revision
from dsfn.runtime.replicas.replica import Replica
from dsfn.runtime.replicas.scaler import STABLE_WINDOW_S, ConcurrencyMeter, Scaler

_AT_REST = (ReplicaState.READY, ReplicaState.PARKED, ReplicaState.FROZEN)
_ACTIVE = (ReplicaState.STARTING, ReplicaState.READY, ReplicaState.BUSY)


@dataclass(frozen=True, slots=True)
class Lease:
    """A slot of a replica, reserved for one call, and what the call waited for, in us: what it
    pays of the restore is the slot's to say.

    `granted_ns` is a reading of the monotonic clock.
    """

    replica: Replica
    slot: Slot
    granted_ns: int
    queue_us: int = 0
    start_us: int = 0
    restore_us: int = 0
    parts: Parts = ()


@dataclass(eq=False, slots=True)
class _Waiter:
    since_ns: int
    granted: asyncio.Future[Lease]


@dataclass(eq=False, slots=True)
class _Preparation:
    """What starting or unparking a replica took, told to the first call that it serves."""

    start_us: int
    restore_us: int
    parts: Parts = ()


@dataclass(eq=False)
class Pool:
    """Hands out replicas, waits while there is none, and grows and shrinks their number.

    `launch` makes a loaded replica, `spawn_task` owns the pool's background work. `keeper`: the
    tenant that pays for replicas which are there because `min_replicas` says so. A
    `retired` pool serves the calls that it has and keeps no replica beyond them.
    """

    revision: Revision
    clock: Clock
    launch: Callable[[Pool], Awaitable[Replica]]
    spawn_task: Callable[[Coroutine[None, None, None]], None]
    queue_timeout_s: float
    shares: CpuShares
    keeper: str
    replicas: list[Replica] = field(default_factory=list)
    retired: bool = False
    _starting: int = 0
    _wanted: int = 0
    _waiting: deque[_Waiter] = field(default_factory=deque)
    _fresh: dict[Replica, _Preparation] = field(default_factory=dict)
    _meter: ConcurrencyMeter = field(init=False)
    _scaler: Scaler = field(init=False)

    def __post_init__(self) -> None:
        options = self.revision.options
        self._meter = ConcurrencyMeter(self.clock.monotonic_ns())
        self._scaler = Scaler(options.concurrency, options.min_replicas, options.max_replicas)

    @property
    def queue_depth(self) -> int:
        """Calls that wait for a replica."""
        return len(self._waiting)

    @property
    def start_count(self) -> int:
        """Replicas that are being started."""
        return self._starting

    async def acquire(self) -> Lease:
        """A slot for one call, at once or when a replica comes.

        Raises `QueueFull`, `QueueTimeout`, or what kept the replicas from starting.
        """
        self._meter.add(1, self.clock.monotonic_ns())
        try:
            replica = self._free_replica() if not self._waiting else None
            if replica is None:
                return await self._wait()
            return self._grant(replica, 0)
        except BaseException:
            self._meter.add(-1, self.clock.monotonic_ns())
            raise

    def start_ahead(self) -> None:
        """Starts a replica before anybody calls, unless there is one."""
        if self.is_empty():
            self._starting += 1
            self.spawn_task(self._start())

    def released(self, replica: Replica) -> None:
        """A replica finished a call."""
        self._meter.add(-1, self.clock.monotonic_ns())
        if replica.in_flight == 0:
            self.shares.busy_replicas -= 1
            if replica.wants_room and replica.state is ReplicaState.READY:
                # What it comes back into has the room that a call of it did not find.
                replica.state = ReplicaState.STARTING
                self.spawn_task(replica.park())
        if self._waiting:
            self.serve_waiting()

    def parked(self, replica: Replica) -> None:
        """A replica has given its memory up, of its own or because others need it."""
        if self._waiting:
            self._grow()

    def ended(self, replica: Replica) -> None:
        """A replica's process has gone."""
        if replica in self.replicas:
            self._remove(replica)
        self._fresh.pop(replica, None)
        if self._waiting:
            self._grow()

    def serve_waiting(self) -> None:
        """Gives free slots to the calls that have waited longest."""
        while self._waiting:
            replica = self._free_replica()
            if replica is None:
                self._grow()
                return
            waiter = self._waiting.popleft()
            if not waiter.granted.done():
                waiter.granted.set_result(self._grant(replica, waiter.since_ns))

    def tick(self) -> None:
        """Once a scaler tick: has those leave whose snapshot was changed under them, measures, and
        starts what is wanted."""
        for replica in list(self.replicas):
            replica.drop_unsound()
        average = self._meter.take_average(self.clock.monotonic_ns())
        self._wanted = self._scaler.tick(average, len(self.replicas))
        self._grow()

    def is_empty(self) -> bool:
        """Whether nothing runs, starts or waits here."""
        return not (self.replicas or self._starting or self._waiting)

    def shrink(self, now_s: float) -> None:
        """Parks and removes replicas that have idled for as long as their options say."""
        options, keep = self.revision.options, self._keep_count
        idle = [r for r in self.replicas if r.state in _AT_REST]
        idle.sort(key=lambda r: r.used_at_s)
        spare_count = len(self.replicas) - keep
        for replica in idle[: max(0, spare_count)]:
            idle_s = now_s - replica.used_at_s
            surplus = len(self.replicas) > max(self._wanted, 1) and idle_s >= STABLE_WINDOW_S
            unused = self.retired and not self._waiting
            if unused or surplus or idle_s >= options.remove_after_s:
                self._remove(replica)
                self.spawn_task(replica.stop())
            elif replica.state is ReplicaState.READY and idle_s >= options.park_after_s:
                replica.state = ReplicaState.STARTING
                self.spawn_task(replica.park())

    def note_kept(self) -> None:
        """Tells each replica whether `min_replicas` is why it is there: so many of them, those
        that have been there for longest, are the keeper's to pay for when nobody calls."""
        for number, replica in enumerate(self.replicas):
            replica.keep_warm(self.keeper if number < self._keep_count else "")

    async def rest(self, to: ReplicaState) -> int:
        """Parks, freezes or removes the replicas that are idle; how many it were."""
        resting = [r for r in self.replicas if r.state in _AT_REST]
        if to is ReplicaState.ABSENT:
            for replica in resting:
                self._remove(replica)
            await asyncio.gather(*(replica.stop() for replica in resting))
            return len(resting)
        for replica in resting:
            if replica.state is ReplicaState.READY:
                await replica.park()
            if to is ReplicaState.FROZEN and replica.can_freeze():
                await replica.freeze()
        return len(resting)

    async def stop(self) -> None:
        """Ends every replica once its calls have finished; waiting calls are refused."""
        self.retired = True
        self._refuse(ShuttingDown("The node is shutting down.", retry_after_s=5))
        stopping, self.replicas = self.replicas, []
        await asyncio.gather(*(replica.stop() for replica in stopping))

    def cut_off(self, error: DsfnError) -> None:
        """Ends the calls that run or wait with this error."""
        self._refuse(error)
        for replica in self.replicas:
            replica.cut_off(error)

    @property
    def _keep_count(self) -> int:
        return 0 if self.retired else self.revision.options.min_replicas

    def _remove(self, replica: Replica) -> None:
        self.replicas.remove(replica)
        replica.keep_warm("")
        self.note_kept()

    def _free_replica(self) -> Replica | None:
        """The least loaded replica with a free slot, the most recently used among equals,
        so that the others come to rest."""
        best: Replica | None = None
        for replica in self.replicas:
            if replica.takes_calls() and (
                best is None
                or (replica.in_flight, -replica.used_at_s) < (best.in_flight, -best.used_at_s)
            ):
                best = replica
        return best

    def _grant(self, replica: Replica, since_ns: int) -> Lease:
        slot, now_ns = replica.reserve(), self.clock.monotonic_ns()
        if replica.in_flight == 1:
            self.shares.busy_replicas += 1
        fresh = self._fresh.pop(replica, None) or _Preparation(0, 0)
        if not since_ns:
            return Lease(replica, slot, now_ns)
        waited_us = (now_ns - since_ns) // 1000
        restore_us = min(fresh.restore_us, waited_us)
        if restore_us:
            slot.waited(waited_us)
        start_us = min(fresh.start_us, waited_us - restore_us)
        queue_us = waited_us - restore_us - start_us
        return Lease(replica, slot, now_ns, queue_us, start_us, restore_us, fresh.parts)

    async def _wait(self) -> Lease:
        options = self.revision.options
        if len(self._waiting) >= options.max_queue:
            raise QueueFull(
                f"{options.max_queue} calls of {options.name} wait already.",
                max_queue=options.max_queue,
                retry_after_s=1,
            )
        granted: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(self.clock.monotonic_ns(), granted)
        self._waiting.append(waiter)
        self._grow()
        try:
            async with asyncio.timeout(self.queue_timeout_s):
                return await granted
        except TimeoutError:
            raise QueueTimeout(
                f"No replica of {options.name} was free within {self.queue_timeout_s:g} s:"
                f" {self._told_states()}.",
                waited_s=self.queue_timeout_s,
                retry_after_s=max(1.0, self.queue_timeout_s / 10),
            ) from None
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                # The slot was granted and the caller went away before it could be used.
                self._meter.add(1, self.clock.monotonic_ns())
                lease = granted.result()
                lease.replica.unreserve(lease.slot)
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _told_states(self) -> str:
        """What its replicas are at, in words."""
        states = Counter(replica.state for replica in self.replicas)
        states[ReplicaState.STARTING] += self._starting
        there = [f"{count} {state}" for state, count in states.items() if count]
        return ", ".join(there) or "none is there"

    def _grow(self) -> None:
        """Unparks or starts replicas up to what is wanted: at least one when a call waits.

        The scaler looks back over minutes; while nobody calls, its wish must not bring
        back what was parked or removed.
        """
        wanted = self._keep_count
        if self._meter.value > 0:
            wanted = max(wanted, self._wanted)
        wanted = max(wanted, 1 if self._waiting else 0)
        wanted = min(wanted, self.revision.options.max_replicas)
        active = self._starting + sum(1 for r in self.replicas if r.state in _ACTIVE)
        # A frozen one takes longer to come back: it goes first, to be popped last.
        parked = [r for r in self.replicas if r.state is ReplicaState.FROZEN]
        parked += [r for r in self.replicas if r.state is ReplicaState.PARKED]
        for _ in range(wanted - active):
            if parked:
                replica = parked.pop()
                replica.state = ReplicaState.STARTING
                self.spawn_task(self._unpark(replica))
            else:
                self._starting += 1
                self.spawn_task(self._start())

    async def _start(self) -> None:
        began_ns = self.clock.monotonic_ns()
        try:
            replica = await self.launch(self)
        except DsfnError as error:
            self._starting -= 1
            self._refuse_if_hopeless(error)
            return
        except BaseException:
            self._starting -= 1
            raise
        self._starting -= 1
        took_us = (self.clock.monotonic_ns() - began_ns) // 1000
        back = replica.brought_back
        start_us = max(0, took_us - back.restore_us - back.room_us)
        self._fresh[replica] = _Preparation(start_us, back.restore_us, back.parts)
        self.replicas.append(replica)
        self.note_kept()
        self.serve_waiting()

    async def _unpark(self, replica: Replica) -> None:
        try:
            await replica.unpark()
        except MemoryFull as error:
            self._refuse_if_hopeless(error)
            return
        except ReplicaStartFailed:
            return  # it was killed; when it has ended another is started, from the snapshot
        back = replica.brought_back
        self._fresh[replica] = _Preparation(0, back.restore_us, back.parts)
        self.serve_waiting()

    def _refuse_if_hopeless(self, error: DsfnError) -> None:
        """Calls wait on while another replica serves or starts; otherwise they hear why not."""
        if self._starting == 0 and not any(r.state in _ACTIVE for r in self.replicas):
            self._refuse(error)

    def _refuse(self, error: DsfnError) -> None:
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            if not waiter.granted.done():
                waiter.granted.set_exception(error)
