"""Snapshots between a node's disk and its store."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from node_tiers import make_tiers
from patience import within
from revisions import make_revision

from dsfn.billing.sqlite import connect
from dsfn.functions.errors import (
    Conflict,
    CorruptSnapshot,
    DsfnError,
    NotFound,
    ShuttingDown,
    StorageFull,
    StoreUnavailable,
)
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.model import Revision, SnapshotRef
from dsfn.runtime.registry import Registry
from dsfn.runtime.tiers import tiers as tiers_module
from dsfn.runtime.tiers.catalogue import Catalogue
from dsfn.runtime.tiers.tiers import SnapshotTiers
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.sealed import is_sound
from dsfn.snapshots.shared import SharedDirectory
from dsfn.snapshots.store import Published
from dsfn.snapshots.transfer import Transfer

T = TypeVar("T")


class Counted(SharedDirectory):
    """A store that counts what is asked, and fails or waits as a test says."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        super().__init__(root)
        self.pulls = self.pushes = 0
        self.error: DsfnError | None = None
        self.wait = threading.Event()
        self.wait.set()

    def pull(self, digest: str, staging: Path, transfer: Transfer) -> None:
        self.pulls += 1
        self._go(transfer)
        super().pull(digest, staging, transfer)

    def push(self, directory: Path, transfer: Transfer) -> Published:
        self.pushes += 1
        self._go(transfer)
        return super().push(directory, transfer)

    def _go(self, transfer: Transfer) -> None:
        while not self.wait.is_set():
            transfer.pause(0.01)
        if self.error is not None:
            raise self.error


@dataclass
class Node:
    """What a node knows and has of snapshots, and the store."""

    place: Path
    tiers: SnapshotTiers
    registry: Registry
    store: Counted
    loop: asyncio.Runner
    in_use: set[str] = field(default_factory=set)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(within(work, 30))

    def deploy(self, number: int, size: int = 1000) -> Revision:
        """A function with a snapshot of about so many bytes, captured here."""
        files = self.tiers.disk.files
        staging = files.stage()
        capture({"weight": torch.full((size // 4,), float(number))}, Classes(), staging)
        published = files.publish(staging)
        revision = replace(
            make_revision(number, f"fun{number}"),
            snapshot=SnapshotRef(published.digest, published.bytes),
            snapshot_reason=None,
        )
        self.registry.register(revision)
        return revision

    def stored(self, number: int, size: int = 1000) -> Revision:
        """The same, and in the store, too."""
        revision = self.deploy(number, size)
        self.run(self.tiers.push(digest_of(revision)))
        return revision

    def lost(self, number: int) -> Revision:
        """The same, and in the store alone."""
        revision = self.stored(number)
        self.run(self.tiers.disk.delete(digest_of(revision)))
        return revision

    def digests(self) -> set[str]:
        return set(self.tiers.disk.files.digests())


def digest_of(revision: Revision) -> str:
    assert revision.snapshot is not None
    return revision.snapshot.digest


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Makes nodes, one after the other over the same directory."""
    opened: list[Node] = []
    with asyncio.Runner() as loop:
        connection = connect(tmp_path / "node.db", "")
        registry = Registry(connection, SystemClock())
        store = Counted(tmp_path / "store")

        def make_one(max_disk_bytes: int = 0, with_store: bool = True) -> Node:
            in_use: set[str] = set()
            kept = store if with_store else None
            tiers = make_tiers(
                tmp_path,
                connection,
                registry,
                kept,
                max_disk_bytes=max_disk_bytes,
                in_use=lambda: in_use,
            )
            node = Node(tmp_path, tiers, registry, store, loop, in_use)
            opened.append(node)
            return node

        yield make_one
        store.wait.set()
        for node in opened:
            loop.run(node.tiers.close())
        connection.close()


@pytest.fixture
def node(make: Callable[..., Node]) -> Node:
    return make()


def damage(directory: Path) -> None:
    """Flips a bit of the slab."""
    (slab,) = directory.glob("slab*")
    slab.chmod(0o644)
    data = bytearray(slab.read_bytes())
    data[-1] ^= 1
    slab.write_bytes(data)


def test_a_snapshot_on_the_disk_is_used_as_it_is(node: Node) -> None:
    revision = node.deploy(1)
    path = node.run(node.tiers.ensure(digest_of(revision)))
    assert path == node.tiers.disk.files.path(digest_of(revision))
    assert node.store.pulls == 0
    assert node.tiers.records.of(digest_of(revision)).heat == 1


def test_the_next_node_knows_how_often_snapshots_were_used(make: Callable[..., Node]) -> None:
    first = make()
    digest = digest_of(first.deploy(1))
    for _ in range(2):
        first.run(first.tiers.ensure(digest))
    used = first.tiers.records.of(digest)
    first.run(first.tiers.close())
    assert make().tiers.records.of(digest) == used
    assert used.heat > 1


def test_a_snapshot_that_left_the_disk_is_pulled_when_it_is_used(node: Node) -> None:
    revision = node.lost(1)
    path = node.run(node.tiers.ensure(digest_of(revision)))
    assert path is not None and is_sound(path, Transfer(10))
    record = node.tiers.records.of(digest_of(revision))
    assert record.reload_us is not None and record.reload_us > 0
    assert record.stored_at_us is not None


def test_replicas_that_start_together_share_one_pull(node: Node) -> None:
    revision = node.lost(1)
    node.store.wait.clear()

    async def together() -> set[Path | None]:
        tasks = [asyncio.create_task(node.tiers.ensure(digest_of(revision))) for _ in range(10)]
        await asyncio.sleep(0.1)
        node.store.wait.set()
        return set(await asyncio.gather(*tasks))

    assert node.run(together()) == {node.tiers.disk.files.path(digest_of(revision))}
    assert node.store.pulls == 1


def test_two_snapshots_are_pulled_at_a_time_and_others_wait(node: Node) -> None:
    digests = [digest_of(node.lost(number)) for number in (1, 2, 3)]
    node.store.wait.clear()

    async def together() -> None:
        tasks = [asyncio.create_task(node.tiers.ensure(digest)) for digest in digests]
        await until(lambda: node.store.pulls == 2)
        await asyncio.sleep(0.1)
        assert node.store.pulls == 2
        node.store.wait.set()
        assert all(await asyncio.gather(*tasks))

    node.run(together())
    assert node.digests() == set(digests)


def test_a_pull_that_nobody_waits_for_any_more_is_stopped(node: Node) -> None:
    revision = node.lost(1)
    node.store.wait.clear()

    async def leave() -> None:
        tasks = [asyncio.create_task(node.tiers.ensure(digest_of(revision))) for _ in range(2)]
        await asyncio.sleep(0.1)
        tasks[0].cancel()
        await asyncio.sleep(0.1)
        assert node.tiers.copies is not None
        assert node.tiers.copies.progress("pull", digest_of(revision)), "one still waits"
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert not node.tiers.copies.progress("pull", digest_of(revision))

    node.run(leave())
    node.store.wait.set()
    assert node.run(node.tiers.ensure(digest_of(revision))) is not None, "the next one begins anew"
    assert node.store.pulls == 2
    assert not list((node.place / "snapshots").glob(".staging*"))


def test_without_a_store_nothing_can_be_pushed(make: Callable[..., Node]) -> None:
    node = make(with_store=False)
    with pytest.raises(Conflict, match="no store"):
        node.run(node.tiers.push(digest_of(node.deploy(1))))


def test_a_store_that_fails_leaves_the_function_its_setup_and_is_not_asked_by_every_replica(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = node.lost(1)
    node.store.error = StoreUnavailable("It is away.", reason="away", retry_after_s=1)
    for _ in range(3):
        assert node.run(node.tiers.ensure(digest_of(revision))) is None
    assert node.store.pulls == 1
    assert node.tiers.fault(digest_of(revision)) == "It is away."
    node.store.error = None
    monkeypatch.setattr(tiers_module, "PULL_AGAIN_AFTER_S", 0)
    node.tiers._pull_again_at_s.clear()
    assert node.run(node.tiers.ensure(digest_of(revision))) is not None
    assert node.tiers.fault(digest_of(revision)) is None


def test_a_full_disk_leaves_the_function_its_setup(node: Node) -> None:
    revision = node.lost(1)
    node.store.error = StorageFull("The disk has no room for the snapshot.")
    assert node.run(node.tiers.ensure(digest_of(revision))) is None


def test_a_damaged_copy_is_replaced_by_the_stores(node: Node) -> None:
    revision = node.stored(1)
    path = node.tiers.disk.files.path(digest_of(revision))
    damage(path)
    assert node.run(node.tiers.refetch(digest_of(revision)))
    assert is_sound(path, Transfer(10))
    assert node.store.pulls == 1


def test_what_is_damaged_in_the_store_or_nowhere_is_called_so(
    node: Node, make: Callable[..., Node]
) -> None:
    bad, gone = node.lost(1), node.lost(2)
    damage(node.place / "store" / digest_of(bad))
    node.store.delete(digest_of(gone))
    with pytest.raises(CorruptSnapshot, match="differ from their digest"):
        node.run(node.tiers.ensure(digest_of(bad)))
    with pytest.raises(CorruptSnapshot, match="neither on this node's disk nor in the store"):
        node.run(node.tiers.ensure(digest_of(gone)))
    alone = make(with_store=False)
    with pytest.raises(CorruptSnapshot, match="there is no store"):
        alone.run(alone.tiers.ensure(digest_of(gone)))
    assert not alone.run(alone.tiers.refetch(digest_of(gone)))


def test_what_was_deployed_is_pushed_in_the_background(node: Node) -> None:
    revision = node.deploy(1)
    digest = digest_of(revision)
    catalogue = Catalogue(node.tiers, node.registry)

    async def deploy() -> None:
        await node.tiers.start()
        node.store.wait.clear()
        await node.tiers.published([digest])
        await until(lambda: catalogue.store_state(digest) == "pushing")
        node.store.wait.set()
        await until(lambda: catalogue.store_state(digest) == "stored")

    node.run(deploy())
    assert node.store.has(digest)
    assert catalogue.where(digest) == ("disk", "store")


def test_a_push_that_fails_is_tried_again_and_its_reason_is_told(node: Node) -> None:
    node.tiers.pusher.first_pause_s = 0.05
    digest = digest_of(node.deploy(1))
    node.store.error = StoreUnavailable("It is away.", reason="away", retry_after_s=1)

    async def deploy() -> None:
        await node.tiers.start()
        await until(lambda: node.store.pushes >= 3)
        assert node.tiers.pusher.reason(digest) == "It is away."
        assert Catalogue(node.tiers, node.registry).store_state(digest) in ("waiting", "pushing")
        node.store.error = None
        await until(lambda: not node.tiers.pusher.waits(digest))

    node.run(deploy())
    assert node.store.has(digest)
    assert node.tiers.pusher.reason(digest) is None


def test_a_damaged_copy_is_not_pushed_and_not_tried_again(node: Node) -> None:
    digest = digest_of(node.deploy(1))
    damage(node.tiers.disk.files.path(digest))

    async def deploy() -> None:
        await node.tiers.start()
        await until(lambda: node.tiers.pusher.reason(digest) is not None)

    node.run(deploy())
    assert not node.tiers.pusher.waits(digest)
    assert not node.store.has(digest)
    assert Catalogue(node.tiers, node.registry).store_state(digest) == "absent"


def test_a_node_pushes_at_its_start_what_the_one_before_it_could_not(
    make: Callable[..., Node],
) -> None:
    first = make()
    digest = digest_of(first.deploy(1))
    second = make()

    async def start() -> None:
        await second.tiers.start()
        await until(lambda: second.store.has(digest))

    second.run(start())


def test_a_damaged_copy_in_the_store_is_replaced_by_a_good_one(node: Node) -> None:
    revision = node.stored(1)
    digest = digest_of(revision)
    damage(node.place / "store" / digest)
    with pytest.raises(CorruptSnapshot):
        node.run(node.tiers.pull(digest))
    assert node.tiers.records.of(digest).stored_at_us is None, "it counts no more"
    assert digest in node.digests(), "what is here stays"
    node.run(node.tiers.push(digest))
    node.run(node.tiers.pull(digest))


def test_the_disks_limit_is_kept_by_sending_away_what_is_used_least(
    make: Callable[..., Node],
) -> None:
    node = make(max_disk_bytes=100_000)
    old, kept = node.stored(1, 40_000), node.stored(2, 40_000)
    for _ in range(3):
        node.run(node.tiers.ensure(digest_of(kept)))
    third = node.stored(3, 40_000)
    node.run(node.tiers.ensure(digest_of(third)))
    node.run(node.tiers.pruner.trim())
    assert node.digests() == {digest_of(kept), digest_of(third)}
    assert node.store.has(digest_of(old))


def test_room_is_made_before_a_snapshot_is_pulled(make: Callable[..., Node]) -> None:
    node = make(max_disk_bytes=100_000)
    wanted = node.stored(1, 40_000)
    node.run(node.tiers.disk.delete(digest_of(wanted)))
    others = [node.stored(number, 40_000) for number in (2, 3)]
    assert node.run(node.tiers.ensure(digest_of(wanted))) is not None
    assert digest_of(wanted) in node.digests()
    assert len(node.digests()) == 2
    assert all(node.store.has(digest_of(other)) for other in others)


def test_pinned_used_and_unpushed_snapshots_stay_whatever_the_limit(
    make: Callable[..., Node],
) -> None:
    node = make()
    pinned, busy, only, other = node.stored(1), node.stored(2), node.deploy(3), node.stored(4)
    node.tiers.pin(digest_of(pinned), True)
    node.in_use.add(digest_of(busy))
    node.tiers.pruner.max_disk_bytes = 1
    node.run(node.tiers.pruner.trim())
    assert node.digests() == {digest_of(pinned), digest_of(busy), digest_of(only)}
    node.tiers.pin(digest_of(pinned), False)
    node.run(node.tiers.pruner.trim())
    assert digest_of(pinned) not in node.digests()
    assert node.run(node.tiers.ensure(digest_of(other))) is not None


def test_what_somebody_deleted_from_the_store_is_not_sent_away(make: Callable[..., Node]) -> None:
    node = make()
    revision = node.stored(1)
    node.store.delete(digest_of(revision))
    node.tiers.pruner.max_disk_bytes = 1
    node.run(node.tiers.pruner.trim())
    assert node.digests() == {digest_of(revision)}
    assert not node.tiers.is_elsewhere(digest_of(revision))


def test_pruning_deletes_what_nothing_refers_to_once_it_is_old(node: Node) -> None:
    kept, unneeded = node.deploy(1), node.deploy(2)
    node.registry.delete("fun2")
    digest = digest_of(unneeded)
    assert node.run(node.tiers.pruner.prune(False)) == []
    directory = node.tiers.disk.files.path(digest)
    os.utime(directory, (time.time() - 10_000,) * 2)
    node.tiers.disk.forget(digest)
    would = node.run(node.tiers.pruner.prune(True))
    assert [(each.digest, each.reason) for each in would] == [(digest, "unused")]
    assert node.digests() == {digest, digest_of(kept)}
    assert node.run(node.tiers.pruner.prune(False)) == would
    assert node.digests() == {digest_of(kept)}


def test_prefetching_brings_snapshots_to_the_disk_and_hands_them_on(node: Node) -> None:
    lost, here, gone = node.lost(1), node.deploy(2), node.deploy(3)
    node.run(node.tiers.disk.delete(digest_of(gone)))
    promoted: list[tuple[str, Path]] = []
    named = {digest_of(each) for each in (lost, here, gone)}

    async def promote(revision: Revision, directory: Path, beside: Collection[str]) -> None:
        assert beside == named
        if revision is here:
            raise StoreUnavailable("The arena is too small.", reason="", retry_after_s=1)
        promoted.append((revision.id, directory))

    node.tiers.promote = promote
    found = node.run(node.tiers.prefetch([lost, here, gone]))
    assert promoted == [(lost.id, node.tiers.disk.files.path(digest_of(lost)))]
    assert [each.reason for each in found] == [
        None,
        "The arena is too small.",
        "The snapshot is damaged: it is neither on this node's disk nor in the store.",
    ]


def test_a_node_that_stops_ends_its_copies(make: Callable[..., Node]) -> None:
    node = make()
    revision = node.lost(1)
    node.store.wait.clear()

    async def stop() -> None:
        waiting = asyncio.create_task(node.tiers.ensure(digest_of(revision)))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            await node.tiers.close()
        with pytest.raises(ShuttingDown):
            await waiting

    node.run(stop())
    assert not list((node.place / "snapshots").glob(".staging*"))


def test_every_file_is_checked_on_demand(node: Node) -> None:
    digest = digest_of(node.deploy(1))
    assert all(file.sound for file in node.run(node.tiers.check(digest)))
    damage(node.tiers.disk.files.path(digest))
    assert [f.name for f in node.run(node.tiers.check(digest)) if not f.sound] == [
        path.name for path in node.tiers.disk.files.path(digest).glob("slab*")
    ]
    with pytest.raises(NotFound):
        node.run(node.tiers.check("0" * 64))


def test_a_name_is_a_function_a_revision_or_the_beginning_of_a_digest(node: Node) -> None:
    catalogue = Catalogue(node.tiers, node.registry)
    revision, digest = node.deploy(1), ""
    digest = digest_of(revision)
    for name in ("fun1", revision.id, digest, digest[:8]):
        target = node.run(catalogue.resolve(name))
        assert (target.digest, target.revisions) == (digest, (revision,))
    for name in (digest[:7], "nobody", "", "../.."):
        with pytest.raises(NotFound, match="no function, revision or snapshot"):
            node.run(catalogue.resolve(name))
    node.registry.register(replace(make_revision(8, "plain"), snapshot=None))
    with pytest.raises(NotFound, match="has no snapshot"):
        node.run(catalogue.resolve("plain"))


def test_a_beginning_that_several_digests_have_is_refused(node: Node) -> None:
    catalogue = Catalogue(node.tiers, node.registry)
    for number, last in enumerate("ab", 1):
        reference = SnapshotRef("12345678" + last * 56, 1)
        node.registry.register(replace(make_revision(number, f"f{number}"), snapshot=reference))
    with pytest.raises(Conflict, match="2 snapshots begin with 12345678"):
        node.run(catalogue.resolve("12345678"))
    assert node.run(catalogue.resolve("12345678a")).digest.endswith("a")


def test_the_listing_shows_what_is_here_in_the_store_and_lost(node: Node) -> None:
    catalogue = Catalogue(node.tiers, node.registry)
    here, both, away, gone = node.deploy(1), node.stored(2), node.lost(3), node.deploy(4)
    node.run(node.tiers.disk.delete(digest_of(gone)))
    listing = node.run(catalogue.listing())
    tiers = {row.revisions[0].function: row.tiers for row in listing.rows}
    assert tiers == {
        "fun1": ("disk",),
        "fun2": ("disk", "store"),
        "fun3": ("store",),
        "fun4": (),
    }
    assert {row.device for row in listing.rows if "disk" in row.tiers} == {"cpu"}
    assert listing.disk_bytes == sum(r.snapshot.bytes for r in (here, both) if r.snapshot)
    assert listing.store_fault is None
    (node.place / "store").rename(node.place / "elsewhere")
    listing = node.run(catalogue.listing())
    assert listing.store_fault is not None and "No such directory" in listing.store_fault
    assert {r.revisions[0].function for r in listing.rows if "store" in r.tiers} == {"fun2", "fun3"}
    (node.place / "elsewhere").rename(node.place / "store")
    assert digest_of(away) not in node.digests()


async def until(condition: Callable[[], bool]) -> None:
    """Waits until it is so."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
