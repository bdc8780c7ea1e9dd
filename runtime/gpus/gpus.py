"""A node's GPUs: the memory owner is kept alive, and each replica gets its share."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import field
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsfn.functions.errors import DsfnError, MemoryFull, OwnerLost, ReplicaLost
from dsfn.functions.values import dataclass
from dsfn.runtime.config import GpuSettings
from dsfn.runtime.gpus.arena_room import ArenaRoom
from dsfn.runtime.gpus.found import Found
from dsfn.runtime.gpus.holding import Holding
from dsfn.runtime.gpus.keeper import OwnerKeeper
from dsfn.runtime.gpus.room import Room, occupied
from dsfn.runtime.model import Revision
from dsfn.runtime.worker.messages import Gpu
from dsfn.snapshots.format import CPU, SlabEntry
from dsfn.snapshots.owner.errors import is_lasting
from dsfn.snapshots.reading import read_manifest

if TYPE_CHECKING:
    from dsfn.snapshots.owner.account import DeviceAccount
    from dsfn.snapshots.owner.control import OwnerControl

# An owner opens its devices first, in a second or two; what takes longer is the arena.
_OPENED_S = 5.0
_MAX_KNOWN = 10_000


@dataclass(eq=False)
class Gpus:
    """The GPUs of a node; one without any has an empty one of these. `patience_s`: how long a
    snapshot waits for room in the arena."""

    found: Found
    settings: GpuSettings
    tenant: str
    patience_s: float
    rooms: list[Room] = field(init=False)
    keeper: OwnerKeeper = field(init=False)
    _arena: ArenaRoom = field(default_factory=ArenaRoom)
    _turns: list[asyncio.Lock] = field(init=False)
    _slabs: dict[Path, tuple[SlabEntry, ...]] = field(default_factory=dict)
    _classes: list[str] = field(init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        numbers = range(len(self.found.devices))
        self.rooms = [Room(number, self._account) for number in numbers]
        self._turns = [asyncio.Lock() for _ in numbers]
        self._classes = ["gpu" for _ in numbers]  # until the owner has said more
        self.keeper = OwnerKeeper(self.all(), self.settings, self.tenant, self)

    def __bool__(self) -> bool:
        return bool(self.found.devices)

    def start(self) -> None:
        """Starts the owner, and again whenever it has ended."""
        if self:
            self.keeper.start()

    async def check_named(self) -> None:
        """Returns once the devices that the configuration names, if it does, can be taken to be
        there. What is only short of memory goes on being tried. Raises why they are not there."""
        if self.settings.devices is None:
            return
        await self.keeper.began(_OPENED_S)
        fault = self.keeper.fault
        if fault is not None and is_lasting(fault):
            await self.close()
            reason = fault.message[:1].lower() + fault.message[1:]
            raise type(fault)(f"The gpu.devices of config.toml cannot be used: {reason}")

    async def close(self) -> None:
        """Ends the owner, and all its memory with it."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        closing = (self._arena.close(), self.keeper.close())
        await asyncio.gather(*closing, *tasks, return_exceptions=True)

    def all(self) -> tuple[Gpu, ...]:
        """Every GPU."""
        return tuple(Gpu(index, spec) for index, spec in enumerate(self.found.devices))

    def places(self, gpu: float) -> tuple[Gpu, ...]:
        """The GPUs for a replica that asks for so many: those that fewest replicas are on."""
        count = ceil(gpu)
        order = sorted(self.rooms, key=lambda room: (self._crowd(room), room.index))
        return tuple(Gpu(r.index, self.found.devices[r.index]) for r in order[:count])

    async def bring(self, directory: Path, beside: Collection[str] | None = None) -> dict[str, int]:
        """Has the arena hold the weights of the snapshot in `directory`: bytes by device name.
        Where nobody waits for it, pinned ones and the snapshots `beside` it stay there.

        Raises `CorruptSnapshot`, `MemoryFull` (the arena is too small, or all in it on its way to
        a GPU for `patience_s`), `OwnerLost`.
        """
        owner, slabs = await self.owner(), self._slabs_of(directory)
        await self._arena.load(owner, self.tenant, directory, slabs, self.patience_s, beside)
        return {slab.device: slab.data_bytes for slab in slabs}

    @asynccontextmanager
    async def in_arena(self, directory: Path | None) -> AsyncIterator[None]:
        """The weights of a snapshot, if there is one, do not leave the arena inside the block.

        Raises as `bring`.
        """
        if directory is None:
            yield
            return
        owner, slabs = await self.owner(), self._slabs_of(directory)
        async with self._arena.hold(owner, self.tenant, directory, slabs, self.patience_s):
            yield

    async def promote(self, revision: Revision, directory: Path, beside: Collection[str]) -> None:
        """Brings a snapshot up from the disk ahead of its use, if it is for a GPU. The snapshots
        `beside` it, by their digests, do not leave for it.

        Raises as `bring`.
        """
        if revision.options.gpu:
            await self.bring(directory, beside)

    def tiers_of(self, directory: Path) -> tuple[str, ...]:
        """Where the weights of a snapshot are beside the disk: "gpu", "arena"."""
        holdings = (holding for room in self.rooms for holding in room.holdings)
        on_gpu = any(h.present and h.snapshot == directory for h in holdings)
        slabs = self._slabs.get(directory, ())
        in_arena = bool(slabs) and all(self._arena.holds(slab.digest) for slab in slabs)
        return (*(("gpu",) if on_gpu else ()), *(("arena",) if in_arena else ()))

    def keep(self, pinned: Callable[[], frozenset[str]]) -> None:
        """Has the snapshots of these digests leave the arena last."""
        self._arena.pinned = pinned

    async def holding(self, gpu: float, snapshot: Path | None, workspace_bytes: int = 0) -> Holding:
        """What a new replica is to hold; nothing is taken yet. Raises as `bring`."""
        gpus = self.places(gpu)
        named = await self.bring(snapshot) if snapshot is not None else {}
        slab_bytes = {each.index: named.get(f"gpu:{n}", 0) for n, each in enumerate(gpus)}
        context_bytes = self.settings.context_bytes
        return Holding(gpus, slab_bytes, context_bytes, workspace_bytes, snapshot)

    async def take(self, holding: Holding, timeout_s: float) -> None:
        """Makes room for all that the holding still needs, and counts it as held.

        Raises `MemoryFull` when that does not come to be in time, `OwnerLost`, and `ReplicaLost`
        when its process has gone meanwhile.
        """
        rooms = [self.rooms[gpu.index] for gpu in holding.gpus]
        try:
            async with asyncio.timeout(timeout_s), self._in_turn(rooms):
                for room in rooms:
                    needed_bytes = holding.needed_bytes(room.index)
                    await room.make(needed_bytes, holding.workspace_bytes, lambda: holding.over)
                if holding.over:
                    raise _gone_while_it_waited()
                for room in rooms:
                    room.holdings.add(holding)
                holding.take()
        except TimeoutError:
            raise MemoryFull(
                f"No GPU memory came free within {timeout_s:g} s.",
                what="device",
                needed_bytes=sum(map(holding.needed_bytes, holding.slab_bytes)),
                retry_after_s=1,
            ) from None

    def add(self, holding: Holding) -> None:
        """Counts in what has begun to hold memory on its own."""
        for gpu in holding.gpus:
            self.rooms[gpu.index].holdings.add(holding)

    async def has_room_to_spare(self, gpu: Gpu) -> bool:
        """Whether one more context fits and as much again stays free. Raises `OwnerLost`."""
        return await self.rooms[gpu.index].has_to_spare(2 * self.settings.context_bytes)

    def let_go(self, holding: Holding) -> None:
        """The holding's weights are on no GPU any more."""
        holding.let_go()
        self.at_rest(holding)
        if holding.started and self.keeper.running() is not None:
            self._spawn(self._settle(holding))

    async def freeze(self, holding: Holding, pid: int) -> None:
        """Takes the context of a process that has no weights. Raises `DeviceFault`,
        `OwnerLost`; the process is of no use then."""
        owner = await self.owner()
        for gpu in holding.gpus[:1]:  # one checkpoint is of all that a process has
            await owner.freeze(pid, gpu.index)
        holding.started, holding.unseen_bytes = False, 0
        self.at_rest(holding)

    async def thaw(self, holding: Holding, pid: int) -> None:
        """Gives the context back, for which there is room. Raises as `freeze`."""
        owner = await self.owner()
        for gpu in holding.gpus[:1]:
            await owner.thaw(pid, gpu.index)

    def forget(self, holding: Holding) -> None:
        """The holding's process has gone, or it never got one."""
        holding.present = holding.started = False
        holding.over = True
        holding.unseen_bytes = 0
        self.at_rest(holding)
        for gpu in holding.gpus:
            self.rooms[gpu.index].holdings.discard(holding)

    def at_rest(self, holding: Holding) -> None:
        """The holding may be given up now, if somebody needs its room."""
        for gpu in holding.gpus:
            self.rooms[gpu.index].changed()

    def look_again(self, holding: Holding) -> None:
        """There was less room for it than there should have been: others have taken some."""
        for gpu in holding.gpus:
            self.rooms[gpu.index].look_again()

    @asynccontextmanager
    async def lend(
        self, gpu: float, snapshot: Path, workspace_bytes: int, timeout_s: float
    ) -> AsyncIterator[tuple[Gpu, ...]]:
        """GPUs with room for a snapshot and its calls inside the block, and its weights in the
        arena.

        Raises as `bring` and `take`.
        """
        if not gpu:
            yield ()
            return
        holding = await self.holding(gpu, snapshot, workspace_bytes)
        await self.take(holding, timeout_s)
        try:
            async with self.in_arena(snapshot):
                yield holding.gpus
        finally:
            self.forget(holding)

    @asynccontextmanager
    async def borrow(self, gpus: Sequence[Gpu], timeout_s: float) -> AsyncIterator[None]:
        """Nobody else holds memory of these GPUs inside the block, for work that takes what it
        needs from the driver. Until they can be had, calls go on there.

        Raises `MemoryFull` when that is not so in time or can never be, `OwnerLost`.
        """
        owner, rooms = await self.owner(), [self.rooms[each.index] for each in gpus]
        async with AsyncExitStack() as turns:
            try:
                async with asyncio.timeout(timeout_s):
                    while not await self._emptied(rooms, turns):
                        await turns.aclose()
            except TimeoutError:
                present = [holding for room in rooms for holding in room.present()]
                raise occupied(present, "which were not at rest in time") from None
            await owner.trim()
            yield

    async def _emptied(self, rooms: Sequence[Room], turns: AsyncExitStack) -> bool:
        """Waits until all there are at rest, takes the rooms' turns, and has them leave: whether
        nobody became busy meanwhile."""
        for room in rooms:
            await room.at_rest()
        await turns.enter_async_context(self._in_turn(rooms))
        return all([await room.empty() for room in rooms])

    def device_class(self) -> str:
        """What this node's devices are billed as: its first GPU's name, or "cpu"."""
        control = self.keeper.running()
        classes = control.facts["device_classes"] if control is not None else []
        return str(classes[0]) if classes else "cpu"

    def class_of(self, gpus: Sequence[Gpu]) -> str:
        """What these GPUs are billed as; "cpu" where there are none."""
        return self._classes[gpus[0].index] if gpus else "cpu"

    async def report(self) -> dict[str, Any] | None:
        """Where every byte of the owner's memory is; None without an owner that answers."""
        control = self.keeper.running()
        if control is None:
            return None
        try:
            account = await control.account()
        except OwnerLost:
            return None
        return {
            **account.to_document(),
            "pid": control.pid,
            "heir_pid": self.keeper.heir_pid,
            "restarts": self.keeper.restarts,
        }

    def why_no_owner(self) -> str | None:
        """Why `report` gives nothing; None without GPUs."""
        if not self:
            return None
        if self.keeper.running() is not None:
            return "It does not answer."
        fault = self.keeper.fault
        return "It is being started." if fault is None else fault.message

    async def attach(self, worker: socket.socket, gpus: Sequence[Gpu]) -> None:
        """Has the owner serve the worker at the other end of `worker`. Raises `OwnerLost`."""
        owner = await self.owner()
        await owner.attach(worker, self.tenant, [gpu.index for gpu in gpus])

    async def owner(self) -> OwnerControl:
        """The running owner. Raises why there is none: `OwnerLost`, `MemoryFull`, ..."""
        return await self.keeper.owner()

    def owner_began(self, owner: OwnerControl, slabs: Mapping[str, int]) -> None:
        """See `Estate`."""
        self._classes = [str(name) for name in owner.facts["device_classes"]]
        self._arena.start_over(self.tenant, slabs)

    def owner_ended(self) -> None:
        """See `Estate`."""
        for holding in {h for room in self.rooms for h in room.holdings}:
            if holding.holder is not None:
                holding.holder.owner_lost()

    def _slabs_of(self, directory: Path) -> tuple[SlabEntry, ...]:
        """The GPU slabs of a snapshot. A manifest takes milliseconds to read, which is as long as
        a hundred megabytes take to arrive, so what was read once is kept."""
        slabs = self._slabs.get(directory)
        if slabs is None:
            digest, manifest = read_manifest(directory, through_links=True)
            slabs = tuple(slab for slab in manifest.slabs if slab.device != CPU)
            if len(self._slabs) >= _MAX_KNOWN:
                self._slabs.clear()
            # What a deployment tries out lies beside where it is published under its digest.
            self._slabs[directory] = self._slabs[directory.with_name(digest)] = slabs
        return slabs

    async def _settle(self, holding: Holding) -> None:
        with suppress(DsfnError):  # without an owner nobody holds anything
            if self.settings.shared:
                await (await self.owner()).trim()
            for gpu in holding.gpus:
                await self.rooms[gpu.index].settle()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _crowd(self, room: Room) -> tuple[int, int]:
        present = [holding for holding in room.holdings if holding.present]
        return len(present), sum(h.slab_bytes.get(room.index, 0) for h in present)

    @asynccontextmanager
    async def _in_turn(self, rooms: Sequence[Room]) -> AsyncIterator[None]:
        """Holds the rooms' turns, always in the same order, so that no two wait for each other."""
        async with AsyncExitStack() as turns:
            for index in sorted(room.index for room in rooms):
                await turns.enter_async_context(self._turns[index])
            yield

    async def _account(self, index: int) -> DeviceAccount:
        owner = await self.owner()
        account = await owner.account()
        if index >= len(account.devices):
            raise OwnerLost("The memory owner has lost a device.", reason="device")
        return account.devices[index]


def _gone_while_it_waited() -> ReplicaLost:
    reason = "its process ended while it waited for room"
    return ReplicaLost(f"The replica has gone: {reason}.", reason=reason, retry_after_s=1)
