"""What a node keeps of revisions that do not serve any more, for the runs that need them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import apsw
import pytest
from node_tiers import make_tiers
from revisions import make_revision

from dsfn.billing.sqlite import connect
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.config import Settings
from dsfn.runtime.model import Revision
from dsfn.runtime.registry import Registry
from dsfn.runtime.replicas.pool import Pool
from dsfn.runtime.replicas.pools import Pools
from dsfn.runtime.replicas.starter import Starter

OLD, NEW = make_revision(1), make_revision(3)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = connect(tmp_path / "node.db", "")
    yield connection
    connection.close()


@pytest.fixture
def registry(connection: apsw.Connection) -> Registry:
    registry = Registry(connection, SystemClock())
    registry.register(OLD)
    registry.register(NEW)
    return registry


@pytest.fixture
def pools(registry: Registry, tmp_path: Path) -> Pools:
    # Nothing is started: the starter is never asked.
    return Pools(Settings(tmp_path), SystemClock(), registry, cast("Starter", None))


def retired(pools: Pools, revision: Revision) -> bool:
    pool: Pool = pools._pool(revision)
    pools.retire()
    return pool.retired


def test_a_revision_that_a_run_is_pinned_to_keeps_its_replicas(
    registry: Registry, pools: Pools
) -> None:
    pinned: set[str] = set()
    registry.pinned = lambda: pinned
    assert retired(pools, OLD) and not retired(pools, NEW)
    pinned.add(OLD.id)
    assert not retired(pools, OLD)
    registry.delete("echo")
    assert not retired(pools, OLD) and retired(pools, NEW)
    pinned.clear()
    assert registry.release() == 1
    assert retired(pools, OLD)
    assert registry.find(OLD.id) is None


def test_the_snapshot_of_a_pinned_revision_stays_on_the_disk(
    registry: Registry, connection: apsw.Connection, tmp_path: Path
) -> None:
    assert OLD.snapshot is not None and NEW.snapshot is not None
    pruner = make_tiers(tmp_path, connection, registry).pruner
    assert pruner.referred() == {OLD.snapshot.digest, NEW.snapshot.digest}
    registry.pinned = lambda: {OLD.id}
    registry.delete("echo")
    assert pruner.referred() == {OLD.snapshot.digest}
    assert asyncio.run(pruner.prune(dry_run=True)) == []
    registry.pinned = frozenset
    registry.release()
    assert pruner.referred() == frozenset()
