"""Rows of devices on their way to the ledger, whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from lease_node import HandClock, Node, by_day, usage_of
from no_leases import meter_of

from dsfn.billing.interval import Interval
from dsfn.billing.posting import Posting
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, StorageFull, StoreUnavailable
from dsfn.runtime import metering
from dsfn.runtime.leases import leases as leases_module


class FragileLedger(SqliteLedger):
    """Counts its commits; is full when a test says so, or is lost before or after a commit."""

    full = False
    lost = ""
    commits = 0

    def post(self, rows: Sequence[Posting]) -> None:
        if self.full:
            raise StorageFull("No room.")
        if self.lost == "before":
            raise StoreUnavailable("It is gone.")
        self.commits += 1
        super().post(rows)
        if self.lost == "after":
            raise StoreUnavailable("It was cut off.")


class World:
    """A node's leases and meter over a ledger in a file."""

    def __init__(self, place: Path) -> None:
        self.node = Node(HandClock(wall_us=10**12))
        self.ledger = FragileLedger(place / "ledger.db")
        self.meter = meter_of(self.ledger, self.node.leases)

    def intervals(self) -> list[Interval]:
        return list(self.ledger.intervals(0, 2 * 10**12))

    def assert_even(self, lease: str) -> None:
        """The lease is closed, and all of it is accounted for."""
        rows = self.intervals()
        assert [row.closes for row in rows if row.lease == lease].count(True) == 1
        days = by_day(rows, self.ledger.between(0, 2 * 10**12), lease)
        assert days["held"] == days["parts"]


Scenario = Callable[[World], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scenario], None]:
    def run(scenario: Scenario) -> None:
        world = World(tmp_path)

        async def whole() -> None:
            await scenario(world)
            await world.meter.close()

        asyncio.run(whole())
        world.ledger.close()

    return run


def test_time_of_devices_is_written_every_minute_and_when_the_node_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert metering.FLUSH_EVERY_S == 60
    monkeypatch.setattr(metering, "FLUSH_EVERY_S", 0.05)
    world = World(tmp_path)

    async def live() -> None:
        world.meter.start()
        lease = world.node.leases.begin("f", "f-1", ())
        lease.ready()
        world.node.clock.move(10**9)
        await asyncio.sleep(0.3)
        assert [row.duration_us for row in world.intervals()] == [10**6, 10**6]
        world.node.clock.move(10**9)
        await world.meter.close()

    asyncio.run(live())
    world.assert_even("lease-1")
    assert sum(row.duration_us for row in world.intervals()) == 4 * 10**6
    world.ledger.close()


def test_rows_of_devices_go_along_with_those_of_calls(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        lease = world.node.leases.begin("f", "f-1", ())
        lease.ready()
        for _ in range(10):
            world.node.clock.move(2 * 10**9)
            slot = lease.enter()
            world.node.clock.move(10**6)
            slot.release()
            await world.meter.post(usage_of(slot, slot.settle(), world.ledger.commits))
        assert world.ledger.commits == 10
        assert len(world.intervals()) == 20

    play(scenario)


def test_a_report_has_the_time_up_to_now(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        world.node.leases.begin("f", "f-1", ()).ready()
        world.node.clock.move(10**9)
        world.meter.flush()
        (times,) = world.ledger.device_times(0, 2 * 10**12)
        assert (times.held_us, times.idle_us) == (10**6, 10**6)

    play(scenario)


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_call_under_whose_row_the_ledger_was_lost_is_accounted_for_once_it_is_back(
    play: Callable[[Scenario], None], lost: str
) -> None:
    async def scenario(world: World) -> None:
        lease = world.node.leases.begin("f", "f-1", ())
        lease.ready()
        for number, world.ledger.lost in enumerate(("", lost, "")):
            slot = lease.enter()
            world.node.clock.move(10**6)
            slot.release()
            row = usage_of(slot, slot.settle(), number)
            if world.ledger.lost:
                with pytest.raises(StoreUnavailable):
                    await world.meter.post(row)
            else:
                await world.meter.post(row)
        lease.end()
        world.meter.flush()
        posted = {row.invocation_id for row in world.ledger.between(0, 2 * 10**12)}
        assert len(posted) == (3 if lost == "after" else 2)
        world.assert_even("lease-1")

    play(scenario)


def test_a_call_whose_row_finds_a_full_disk_is_the_platforms_once_there_is_room(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        lease = world.node.leases.begin("f", "f-1", ())
        lease.ready()
        slot = lease.enter()
        world.node.clock.move(10**9)
        slot.release()
        row = usage_of(slot, slot.settle(), 1)
        world.ledger.full = True
        with pytest.raises(StorageFull):
            await world.meter.post(row)
        lease.end()
        world.meter.flush()
        world.ledger.full = False
        world.meter.flush()
        world.assert_even("lease-1")
        assert world.ledger.balance("platform/faults", "us:cpu") == 10**6

    play(scenario)


def test_a_restore_whose_call_finds_a_full_disk_is_paid_by_nobody(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        lease = world.node.leases.begin("f", "f-1", ())
        world.node.clock.move(10**9)
        lease.ready()
        slot = lease.enter()
        slot.waited(10**7)
        slot.release()
        restore_us = slot.pay_restore("acme")
        row = replace(usage_of(slot, slot.settle(), 1), restore_us=restore_us)
        world.ledger.full = True
        with pytest.raises(StorageFull):
            await world.meter.post(row)
        world.ledger.full = False
        lease.end()
        world.meter.flush()
        world.assert_even("lease-1")
        assert world.ledger.balance("tenant/acme", "us:cpu") == 0
        assert world.ledger.balance("platform/restore", "us:cpu") == restore_us == 10**6

    play(scenario)


def test_a_row_that_is_posted_again_is_waited_for(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        lease = world.node.leases.begin("f", "f-1", ())
        lease.ready()
        slots = [lease.enter(), lease.enter()]
        world.node.clock.move(10**9)
        lease.end()
        rows = [usage_of(slot, slot.settle(), n) for n, slot in enumerate(slots)]
        world.ledger.full = True
        with pytest.raises(StorageFull):
            await world.meter.post(rows[0], kept=True)
        errors: list[Exception | None] = []
        world.meter.post_kept(rows[1:], errors.extend)
        assert [type(error) for error in errors] == [StorageFull]
        world.ledger.full = False
        world.meter.flush()
        assert not any(row.closes for row in world.intervals())
        await world.meter.post(rows[0], kept=True)
        world.meter.post_kept(rows[1:], errors.extend)
        assert errors[1:] == [None]
        world.meter.flush()
        world.assert_even("lease-1")

    play(scenario)


def test_a_row_that_is_refused_does_not_take_the_devices_rows_with_it(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        lease = world.node.leases.begin("f", "f-1", ())
        lease.ready()
        first, second = lease.enter(), lease.enter()
        world.node.clock.move(10**9)
        lease.end()
        await world.meter.post(usage_of(first, first.settle(), 1))
        same_id = usage_of(second, second.settle(), 1)
        with pytest.raises(Conflict):
            await world.meter.post(replace(same_id, caller="another"))
        world.meter.flush()
        world.assert_even("lease-1")

    play(scenario)


def test_while_the_ledger_cannot_be_written_leases_make_no_more_rows(
    play: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert leases_module.MAX_WAITING_ROWS == 10_000
    monkeypatch.setattr(leases_module, "MAX_WAITING_ROWS", 10)

    async def scenario(world: World) -> None:
        lease = world.node.leases.begin("f", "f-1", ())
        lease.ready()
        world.ledger.full = True
        for _ in range(50):
            world.node.clock.move(10**9)
            world.meter.flush()
        assert len(world.node.rows) <= 12
        world.ledger.full = False
        lease.end()
        world.meter.flush()
        world.assert_even("lease-1")
        held = [row for row in world.intervals() if row.kind == "held"]
        assert sum(row.duration_us for row in held) == 50 * 10**6

    play(scenario)


def test_a_lease_of_another_node_is_none_of_ours(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        lease = world.node.leases.begin("f", "f-1", ())
        slot = lease.enter()
        row: Usage = replace(usage_of(slot, slot.settle(), 1), lease="lease-of-another")
        await world.meter.post(row)
        world.meter.lost(row)
        assert not any(row.closes for row in world.intervals())

    play(scenario)
