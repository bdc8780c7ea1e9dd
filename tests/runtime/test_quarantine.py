from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest
from revisions import make_revision

from dsfn.billing.sqlite import connect
from dsfn.functions.errors import (
    BadMessage,
    CorruptSnapshot,
    DeviceFault,
    SnapshotError,
    StorageFull,
    Unavailable,
)
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.registry import Registry
from dsfn.runtime.replicas.quarantine import Quarantine

REVISION = make_revision(1)
MISFIT = SnapshotError("It was captured with torch 1, and this process has 2.")
DAMAGE = CorruptSnapshot("The snapshot is damaged: a bit is flipped.")


class Copies:
    """Where copies of snapshots are fetched from: there are so many."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.fault: Unavailable | None = None
        self.asked: list[str] = []
        self.gate = asyncio.Event()

    async def fetch(self, digest: str) -> bool:
        self.asked.append(digest)
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        self.count -= 1
        return self.count >= 0


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    connection = connect(tmp_path / "node.db", "")
    found = Registry(connection, SystemClock())
    found.register(REVISION)
    yield found
    connection.close()


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scenario())


async def settle(copies: Copies) -> None:
    """Lets a fetch that was begun end."""
    copies.gate.set()
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_snapshot_that_fails_three_times_is_not_used_again(registry: Registry) -> None:
    async def scenario() -> None:
        quarantine = Quarantine(registry, 3, Copies(9).fetch)
        for _ in range(2):
            quarantine.failed(REVISION, MISFIT)
            assert quarantine.usable(REVISION) == REVISION.snapshot
        quarantine.failed(REVISION, MISFIT)
        assert quarantine.usable(REVISION) is None
        known = registry.revision(REVISION.id)
        assert known.snapshot is not None and known.snapshot.quarantined
        assert known.snapshot_reason == (
            "The snapshot is quarantined. Restores that failed: 3. It was captured with torch 1,"
            " and this process has 2."
        )
        assert quarantine.failed_restores["echo"] == 3

    run(scenario)


def test_it_is_used_again_once_it_was_made_anew(registry: Registry) -> None:
    async def scenario() -> None:
        quarantine = Quarantine(registry, 1, Copies(9).fetch)
        quarantine.failed(REVISION, MISFIT)
        assert quarantine.usable(REVISION) is None
        registry.register(REVISION)  # as a deployment does
        assert quarantine.usable(REVISION) == REVISION.snapshot

    run(scenario)


def test_a_fault_of_the_machine_is_not_the_snapshots(registry: Registry) -> None:
    async def scenario() -> None:
        quarantine = Quarantine(registry, 1, Copies(9).fetch)
        for fault in (DeviceFault("The driver refused."), BadMessage("It is no message.")):
            quarantine.failed(REVISION, fault)
        assert quarantine.usable(REVISION) == REVISION.snapshot
        assert quarantine.failed_restores["echo"] == 2

    run(scenario)


def test_what_is_damaged_is_fetched_again_and_not_used_meanwhile(registry: Registry) -> None:
    async def scenario() -> None:
        copies = Copies(1)
        quarantine = Quarantine(registry, 3, copies.fetch)
        quarantine.failed(REVISION, DAMAGE)
        assert quarantine.usable(REVISION) is None
        quarantine.failed(REVISION, DAMAGE)  # another replica that had begun before
        await settle(copies)
        assert REVISION.snapshot is not None
        assert copies.asked == [REVISION.snapshot.digest]
        assert quarantine.usable(REVISION) == REVISION.snapshot
        quarantine.failed(REVISION, DAMAGE)
        assert quarantine.usable(REVISION) is None
        reason = registry.revision(REVISION.id).snapshot_reason
        assert "A second copy was damaged, too." in str(reason)

    run(scenario)


def test_what_failed_before_a_good_restore_counts_no_more(registry: Registry) -> None:
    async def scenario() -> None:
        copies = Copies(9)
        quarantine = Quarantine(registry, 2, copies.fetch)
        assert REVISION.snapshot is not None
        for fetched in (1, 2, 3):
            quarantine.failed(REVISION, DAMAGE)
            await settle(copies)
            assert len(copies.asked) == fetched
            quarantine.failed(REVISION, MISFIT)
            assert quarantine.usable(REVISION) == REVISION.snapshot
            quarantine.restored(REVISION.snapshot.digest)

    run(scenario)


def test_a_store_that_is_away_is_asked_until_it_has_the_good_copy(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsfn.runtime.replicas.quarantine.FETCH_AGAIN_S", 0.01)

    async def scenario() -> None:
        copies = Copies(1)
        copies.fault = Unavailable("It is away.")
        copies.gate.set()
        quarantine = Quarantine(registry, 3, copies.fetch)
        quarantine.failed(REVISION, DAMAGE)
        while len(copies.asked) < 3:
            await asyncio.sleep(0.01)
            assert quarantine.usable(REVISION) is None
        copies.fault = None
        while quarantine.usable(REVISION) is None:
            await asyncio.sleep(0.01)
        assert registry.revision(REVISION.id).snapshot_reason is None

    run(scenario)


def test_what_is_damaged_and_has_no_other_copy_is_quarantined_at_once(registry: Registry) -> None:
    async def scenario() -> None:
        copies = Copies(0)
        quarantine = Quarantine(registry, 3, copies.fetch)
        quarantine.failed(REVISION, DAMAGE)
        await settle(copies)
        assert quarantine.usable(REVISION) is None
        reason = registry.revision(REVISION.id).snapshot_reason
        assert reason == f"The snapshot is quarantined. {DAMAGE.message}"

    run(scenario)


def test_a_full_disk_puts_the_quarantine_off(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageFull("The disk is full.")

    async def scenario() -> None:
        quarantine = Quarantine(registry, 1, Copies(0).fetch)
        with monkeypatch.context() as patched:
            patched.setattr(registry, "quarantine", full)
            quarantine.failed(REVISION, MISFIT)
        assert quarantine.usable(REVISION) == REVISION.snapshot
        quarantine.failed(REVISION, MISFIT)
        assert quarantine.usable(REVISION) is None

    run(scenario)


def test_a_node_that_stops_does_not_wait_for_a_copy(registry: Registry) -> None:
    async def scenario() -> None:
        quarantine = Quarantine(registry, 3, Copies(1).fetch)
        quarantine.failed(REVISION, DAMAGE)
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await quarantine.close()

    run(scenario)
