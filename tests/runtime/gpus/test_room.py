"""Room on a GPU: who gets it, who has to go, who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field

import pytest

from dsfn.functions.errors import MemoryFull
from dsfn.runtime.gpus.holding import LIBRARIES_BYTES, Holding
from dsfn.runtime.gpus.room import Room
from dsfn.runtime.worker.messages import Gpu
from dsfn.snapshots.owner.account import DeviceAccount

GPU = Gpu(0, "host:100:0")


@dataclass(eq=False)
class Device:
    """A GPU of 100 bytes. `others_bytes` are foreign processes'."""

    others_bytes: int = 0
    reserve_bytes: int = 0
    room: Room = field(init=False)

    def __post_init__(self) -> None:
        self.room = Room(0, self.account)

    async def account(self, index: int) -> DeviceAccount:
        held = sum(h.slab_bytes[0] for h in self.room.holdings if h.present)
        contexts = sum(
            max(0, h.start_bytes - h.unseen_bytes) for h in self.room.holdings if h.started
        )
        free = 100 - held - contexts - self.others_bytes
        return DeviceAccount("cpu", 100, free, self.reserve_bytes, held, 0)

    def replica(self, size: int, heat: float, resting: bool = True, context: int = 0) -> Replica:
        """One that has its weights on the device."""
        holding = Holding((GPU,), {0: size}, context, present=True, started=True)
        holding.holder = replica = Replica(self, holding, heat, resting)
        self.room.holdings.add(holding)
        return replica


@dataclass(eq=False)
class Replica:
    device: Device
    holding: Holding
    heat: float
    resting: bool
    left: bool = False
    stays: bool = False
    function: str = "echo"

    def always_stays(self) -> bool:
        return self.stays

    def can_give_up(self) -> bool:
        return self.resting and self.holding.present

    async def give_up(self) -> None:
        self.holding.present = False
        self.device.room.changed()

    def can_freeze(self) -> bool:
        return self.resting and self.holding.started and not self.holding.present

    async def freeze(self) -> None:
        self.holding.started = False
        self.device.room.changed()

    async def leave(self) -> None:
        self.left = True
        await self.freeze()

    def owner_lost(self) -> None:
        """Not asked for here."""


def within(work: Awaitable[None], seconds: float = 5) -> None:
    async def run() -> None:
        async with asyncio.timeout(seconds):
            await work

    asyncio.run(run())


def test_what_fits_takes_nothing_from_anybody() -> None:
    device = Device()
    replica = device.replica(60, heat=0)
    within(device.room.make(40))
    assert replica.holding.present


def test_the_coldest_at_rest_go_first_and_no_more_than_must() -> None:
    device = Device()
    hot, cold, cool = (device.replica(30, heat=heat) for heat in (9, 1, 2))
    within(device.room.make(60))
    assert [each.holding.present for each in (hot, cool, cold)] == [True, False, False]


def test_processes_go_when_weights_are_not_enough() -> None:
    device = Device()
    parked = device.replica(10, heat=5, context=30)
    busy = device.replica(30, heat=0, resting=False, context=20)
    within(device.room.make(40))
    assert parked.left
    assert busy.holding.present


def test_who_is_busy_is_waited_for() -> None:
    device = Device()
    busy = device.replica(80, heat=0, resting=False)

    async def scenario() -> None:
        making = asyncio.create_task(device.room.make(50))
        await asyncio.sleep(0.02)
        assert not making.done()
        busy.resting = True
        device.room.changed()
        async with asyncio.timeout(5):
            await making

    asyncio.run(scenario())
    assert not busy.holding.present


def test_memory_that_a_foreign_process_gives_back_is_noticed() -> None:
    device = Device(others_bytes=90)

    async def scenario() -> None:
        making = asyncio.create_task(device.room.make(50))
        await asyncio.sleep(0.02)
        assert not making.done()
        device.others_bytes = 0
        async with asyncio.timeout(5):
            await making

    asyncio.run(scenario())


def test_what_could_never_fit_is_refused_at_once() -> None:
    device = Device(reserve_bytes=20)
    replica = device.replica(10, heat=0)
    with pytest.raises(MemoryFull, match="no room for 81 bytes; 80 are free"):
        within(device.room.make(81))
    assert replica.holding.present


def test_the_owner_is_not_asked_again_while_much_is_free() -> None:
    device = Device()

    async def scenario() -> int:
        asked = 0

        async def account(index: int) -> DeviceAccount:
            nonlocal asked
            asked += 1
            return await device.account(index)

        device.room.account = account
        for needed_bytes in (10, 10, 80, 90):
            await device.room.make(needed_bytes)
        return asked

    assert asyncio.run(scenario()) == 2  # at first, and for what is close


def test_room_that_turned_out_to_be_taken_is_looked_at_again() -> None:
    device = Device()
    within(device.room.make(10))
    device.others_bytes = 90
    within(device.room.make(20))  # so much was free that it is believed
    device.room.look_again()
    with pytest.raises(TimeoutError):
        within(device.room.make(20), 0.1)


def test_room_for_what_calls_allocate_is_made_as_far_as_the_gpu_has_it() -> None:
    device = Device()
    replica = device.replica(50, heat=0)
    kept = []
    for spare_bytes in (20, 60, 10**9):
        within(device.room.make(20, spare_bytes))
        kept.append(replica.holding.present)
    assert kept == [True, False, False]


def test_what_was_promised_to_a_process_is_not_promised_again_before_it_can_be_seen() -> None:
    device = Device()
    holding = Holding((GPU,), {0: 20}, 30, workspace_bytes=10)
    holding.take()
    device.room.holdings.add(holding)

    async def scenario() -> None:
        async with asyncio.timeout(5):
            await device.room.make(40)
        making = asyncio.create_task(device.room.make(41))
        await asyncio.sleep(0.02)
        assert not making.done()
        holding.has_all()  # and did not need all of it
        device.room.changed()
        async with asyncio.timeout(5):
            await making
        assert await device.room.has_to_spare(50)
        assert not await device.room.has_to_spare(51)

    asyncio.run(scenario())


def test_what_a_process_takes_later_stays_promised_until_it_has_run_a_call() -> None:
    context_bytes, workspace_bytes = 3 * LIBRARIES_BYTES, 1000
    holding = Holding((GPU,), {0: 20}, context_bytes, workspace_bytes)
    seen = []
    for step in (
        holding.take,
        holding.has_context,
        holding.let_go,  # parked before anybody called it
        holding.take,
        holding.has_all,
        holding.let_go,
        holding.take,
        holding.has_all,
    ):
        step()
        seen.append(holding.unseen_bytes)
    libraries_bytes = LIBRARIES_BYTES + workspace_bytes
    assert seen == [
        context_bytes + workspace_bytes,
        libraries_bytes,
        LIBRARIES_BYTES,
        libraries_bytes,
        0,
        0,
        workspace_bytes,
        0,
    ]


def test_a_replica_whose_call_found_too_little_asks_for_more_room() -> None:
    holding = Holding((GPU,), {0: 10}, 5)
    holding.found_too_little()
    first = holding.workspace_bytes
    holding.found_too_little()
    assert holding.workspace_bytes == 2 * first > 0


@pytest.mark.parametrize("turns", range(5))
def test_a_wait_that_is_cut_off_just_as_something_changes_ends(turns: int) -> None:
    async def scenario() -> None:
        device = Device()
        device.replica(40, heat=1, resting=False)
        waiting = asyncio.create_task(device.room.at_rest())
        await asyncio.sleep(0.01)
        device.room.changed()
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting}, timeout=1)
        assert waiting.cancelled()

    asyncio.run(scenario())
