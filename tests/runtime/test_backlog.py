"""A ledger that follows its spool, behind the answers of calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
from no_leases import NoBudgets, no_leases
from patience import within

from dsfn.billing.posting import Posting
from dsfn.billing.spool import Spool, rows_in
from dsfn.billing.spooled_ledger import SHARE_ROWS, SpooledLedger
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, StoreUnavailable
from dsfn.runtime import backlog as backlog_module
from dsfn.runtime.backlog import Backlog
from dsfn.runtime.metering import Meter
from dsfn.runtime.writer import InlineWriter, ThreadWriter, Writer


def row(number: int, key: str = "") -> Usage:
    return Usage(
        f"i-{number}", "t", "", "f", "r", "cpu", 1, 1, 2, 0, "succeeded", idempotency_key=key
    )


class Watched(SqliteLedger):
    """Counts its commits; hangs, or refuses, when a test says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.commits: list[int] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.error: Exception | None = None

    def post(self, rows: Sequence[Posting]) -> None:
        assert self.may_go_on.wait(10)
        if self.error is not None:
            raise self.error
        self.commits.append(len(rows))
        super().post(rows)


class World:
    """A ledger with a spool, and what posts to it."""

    def __init__(self, place: Path, make_writer: Callable[[], Writer]) -> None:
        self.place = place
        self.database = Watched(place / "ledger.db")
        self.ledger = SpooledLedger(self.database, Spool(place, sync=False))
        self.backlog = Backlog(self.ledger, make_writer())
        self.meter = Meter(
            make_writer(), self.ledger, self.ledger.post_soon, NoBudgets(), no_leases()
        )

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            self.backlog.start()
            await scenario()
            await self.meter.close()
            await self.backlog.close()

        asyncio.run(within(main(), 30))

    async def followed(self) -> None:
        """Returns when no row waits, without anybody reading."""
        while rows_in(self.place):
            await asyncio.sleep(0.005)


@pytest.fixture(params=[InlineWriter, ThreadWriter])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(tmp_path, request.param)
    yield world
    world.ledger.close()


def test_a_row_is_durable_when_its_post_returns_and_in_the_ledger_soon_after(world: World) -> None:
    async def scenario() -> None:
        for number in range(10):
            await world.meter.post(row(number))
            assert row(number) in rows_in(world.place) or world.database.usage(f"i-{number}")
        await world.followed()
        assert len(list(world.database.between(0, 9))) == 10
        # Those that come close together share a commit.
        assert len(world.database.commits) < 10

    world.run(scenario)


def test_many_rows_are_posted_share_by_share(world: World) -> None:
    async def scenario() -> None:
        await asyncio.gather(*(world.meter.post(row(n)) for n in range(3 * SHARE_ROWS + 1)))
        await world.followed()
        assert max(world.database.commits) <= SHARE_ROWS
        assert sum(world.database.commits) == 3 * SHARE_ROWS + 1

    world.run(scenario)


def test_a_ledger_that_is_lost_is_tried_again_until_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backlog_module, "RETRY_AFTER_S", 0.01)

    async def scenario() -> None:
        world.database.error = StoreUnavailable("It is gone.")
        await asyncio.gather(*(world.meter.post(row(n)) for n in range(5)))
        while "5 rows wait for the ledger: It is gone." not in caplog.text:
            await asyncio.sleep(0.005)
        await world.meter.post(row(5))
        world.database.error = None
        await world.followed()
        assert len(list(world.database.between(0, 9))) == 6

    world.run(scenario)


def test_a_second_success_under_one_key_is_told_at_once_though_the_first_one_waits(
    world: World,
) -> None:
    async def scenario() -> None:
        await world.meter.post(row(0, key="k"))
        await world.meter.post(row(1))
        with pytest.raises(Conflict):
            await world.meter.post(row(2, key="k"))
        assert [each.invocation_id for each in world.ledger.between(0, 9)] == ["i-0", "i-1"]

    world.run(scenario)


def test_while_a_server_hangs_calls_are_answered(tmp_path: Path) -> None:
    world = World(tmp_path, ThreadWriter)

    async def scenario() -> None:
        world.database.may_go_on.clear()
        for number in range(50):
            await world.meter.post(row(number))
            await asyncio.sleep(0.001)
        assert world.database.commits == []
        assert len(rows_in(tmp_path)) == 50
        world.database.may_go_on.set()
        await world.followed()

    world.run(scenario)
    assert len(list(world.ledger.between(0, 9))) == 50
    world.ledger.close()
