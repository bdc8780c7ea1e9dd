"""Keeps a memory owner alive, and an heir beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from dsfn.functions.errors import DsfnError, OwnerLost
from dsfn.functions.values import dataclass
from dsfn.runtime.config import GpuSettings
from dsfn.runtime.gpus.heir import Heir
from dsfn.runtime.gpus.holding import Holding
from dsfn.runtime.worker.messages import Gpu
from dsfn.snapshots.owner.errors import owner_lost

if TYPE_CHECKING:
    from dsfn.snapshots.owner.control import OwnerControl
    from dsfn.snapshots.owner.hostfile import HostFile

# A machine whose owner cannot start (no driver, no memory) is tried again, ever more seldom.
_RESTART_S = 0.1
_RESTART_MAX_S = 30.0
_OWNER_S = 60.0
# What the first calls wait for comes before what is there in case of need.
_HEIR_AFTER_S = 2.0
# Its loop answers at once whatever its threads read, copy or freeze: one that leaves two questions
# in a row unanswered hangs.
_ASK_EVERY_S = 2.0
_ANSWER_S = 5.0
_MAX_UNANSWERED = 2
_LOG = logging.getLogger("dsfn.gpus")


class Estate(Protocol):
    """The GPUs, as whoever keeps their owner sees them."""

    def owner_began(self, owner: OwnerControl, slabs: Mapping[str, int]) -> None:
        """There is an owner, whose arena has these: bytes by digest."""

    def owner_ended(self) -> None:
        """What the owner held has gone with it."""

    def add(self, holding: Holding) -> None:
        """Counts in what has begun to hold memory on its own."""

    def forget(self, holding: Holding) -> None:
        """Its process has gone."""

    async def has_room_to_spare(self, gpu: Gpu) -> bool:
        """Whether one more context fits and as much again stays free. Raises `OwnerLost`."""


@dataclass(eq=False)
class OwnerKeeper:
    """Starts an owner of `gpus`, and again whenever it has ended: the heir takes over, if there is
    one. Both have the arena's memory mapped and registered, and a context on each GPU. What is in
    the arena stays there, unless the owner ended by a fault of its own."""

    gpus: Sequence[Gpu]
    settings: GpuSettings
    tenant: str
    estate: Estate
    restarts: int = 0
    fault: DsfnError | None = None
    _owner: asyncio.Future[OwnerControl] | None = None
    _heir: Heir | None = None
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins; a node without GPUs never does."""
        self._owner = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Ends the owner and the heir, and all their memory with them."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def began(self, timeout_s: float) -> None:
        """Returns once an owner has begun or has failed to, or after this time."""
        if self._owner is not None:
            await asyncio.wait({self._owner}, timeout=timeout_s)

    @property
    def heir_pid(self) -> int | None:
        """The heir's process, if there is one now."""
        heir = self._heir
        return heir.control.pid if heir is not None and heir.is_alive else None

    def running(self) -> OwnerControl | None:
        """The owner, if there is one now."""
        owner = self._owner
        if owner is None or not owner.done() or owner.exception() is not None:
            return None
        return owner.result()

    async def owner(self) -> OwnerControl:
        """The running owner. Raises why there is none: `OwnerLost`, `MemoryFull`, ..."""
        assert self._owner is not None, "a node without GPUs has no owner"
        if self._owner.done():
            return self._owner.result()
        try:
            async with asyncio.timeout(_OWNER_S):
                return await asyncio.shield(self._owner)
        except TimeoutError:
            raise self.fault or owner_lost("it does not start") from None

    async def _keep(self) -> None:
        # A program without GPUs never comes here, and need not import what an owner needs.
        from dsfn.snapshots.owner.hostfile import HostFile
        from dsfn.snapshots.owner.linux import available_bytes

        arena_bytes = self.settings.arena_bytes
        size_bytes = available_bytes() // 2 if arena_bytes is None else arena_bytes
        with HostFile.for_arena(size_bytes) as arena:
            try:
                is_sound = True
                while True:
                    control = await self._begin(arena, is_sound)
                    is_sound = await self._reign(control, arena)
            finally:
                await self._disinherit()

    async def _begin(self, arena: HostFile, is_sound: bool) -> OwnerControl:
        """An owner, the heir if there is one, that has the arena, whose bytes may be `is_sound`."""
        pause_s = _RESTART_S
        while True:
            try:
                control = await self._next(arena)
                await self._announce(control, is_sound)
                return control
            except DsfnError as fault:
                is_new = self.fault is None or _kind(self.fault) != _kind(fault)
                self._refuse(fault)
                await asyncio.sleep(pause_s)
                if is_new:
                    _LOG.warning(
                        "The memory owner cannot be started, and is tried again: %s", fault.message
                    )
                pause_s = min(_RESTART_MAX_S, 2 * pause_s)

    async def _next(self, arena: HostFile) -> OwnerControl:
        heir, self._heir = self._heir, None
        if heir is not None:
            self.estate.forget(heir.holding)
            if heir.is_alive:
                return heir.control
            await heir.control.stop()
        return await self._start(arena)

    async def _reign(self, control: OwnerControl, arena: HostFile) -> bool:
        """Returns when the owner is lost: whether what it leaves in the arena is sound."""
        beside = [asyncio.create_task(each) for each in (_watch(control), self._raise_heirs(arena))]
        try:
            reason = await asyncio.shield(control.lost)
        finally:
            # Whoever asks from now on waits for the next one.
            self._owner = asyncio.get_running_loop().create_future()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            # With its process goes what it was still writing into the arena.
            await control.stop()
        _LOG.warning(
            "The memory owner, process %d, is lost: %s. Another is started.", control.pid, reason
        )
        self.restarts += 1
        self.estate.owner_ended()
        return control.was_killed

    async def _raise_heirs(self, arena: HostFile) -> None:
        """Has an heir whenever the GPUs have room for one, and it is not others' to use."""
        pause_s = _HEIR_AFTER_S
        while not self.settings.shared:
            await asyncio.sleep(pause_s)
            pause_s = min(_RESTART_MAX_S, 2 * pause_s)
            try:
                if not all([await self.estate.has_room_to_spare(gpu) for gpu in self.gpus]):
                    continue
                self._heir = heir = await self._raise_heir(arena)
            except DsfnError:
                continue  # whoever needs an owner starts one, and says what fails
            await asyncio.shield(heir.control.lost)
            await self._disinherit()

    async def _raise_heir(self, arena: HostFile) -> Heir:
        """Raises as `OwnerControl.start`."""
        holding = Holding.of_context(tuple(self.gpus), self.settings.context_bytes)
        self.estate.add(holding)
        try:
            control = await self._start(arena)
        except BaseException:  # it goes on; what was promised must not stay behind
            self.estate.forget(holding)
            raise
        holding.has_all()
        holding.holder = heir = Heir(control, holding)
        return heir

    async def _disinherit(self) -> None:
        heir, self._heir = self._heir, None
        if heir is not None:
            self.estate.forget(heir.holding)
            await heir.control.stop()

    async def _start(self, arena: HostFile) -> OwnerControl:
        """Raises as `OwnerControl.start`."""
        from dsfn.snapshots.owner.control import OwnerControl  # as in `_keep`
        from dsfn.snapshots.owner.messages import Start

        devices = [gpu.spec for gpu in self.gpus]
        # The stand-in has a codec for its own tests: nobody's memory gets larger by it.
        is_cuda = all(name.startswith("cuda:") for name in devices)
        compress = is_cuda and not self.settings.shared  # decoding holds memory of the GPU
        message = Start(0, devices, reserve_bytes=self.settings.reserve_bytes, compress=compress)
        return await OwnerControl.start(message, arena)

    async def _announce(self, control: OwnerControl, is_sound: bool) -> None:
        """Raises `OwnerLost`; it has ended then."""
        assert self._owner is not None
        try:
            slabs = await control.take_over(self.tenant, is_sound)
        except BaseException:  # it goes on; the process must not stay behind
            await control.stop()
            raise
        if self.restarts or self.fault is not None:
            _LOG.warning("The memory owner runs as process %d.", control.pid)
        self.fault = None
        self.estate.owner_began(control, slabs)
        self._owner.set_result(control)

    def _refuse(self, fault: DsfnError) -> None:
        """Whoever waits for an owner hears why there is none."""
        self.fault = fault
        waiting, self._owner = self._owner, asyncio.get_running_loop().create_future()
        if waiting is not None and not waiting.done():
            waiting.set_exception(fault)
            waiting.exception()  # nobody may be waiting


def _kind(fault: DsfnError) -> tuple[type[DsfnError], object, object]:
    """What of a fault stays when it is met again: not how much memory is free."""
    return type(fault), fault.fields.get("what"), fault.fields.get("operation")


async def _watch(control: OwnerControl) -> None:
    """Ends an owner that hangs."""
    unanswered = 0
    while unanswered < _MAX_UNANSWERED:
        await asyncio.sleep(_ASK_EVERY_S)
        try:
            await control.account(_ANSWER_S)
            unanswered = 0
        except OwnerLost:
            unanswered += 1
    control.kill(f"it did not answer {_MAX_UNANSWERED} times, {_ANSWER_S:g} s each")
