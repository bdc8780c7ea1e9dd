"""The tiers of a node for tests that run no node."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import apsw

from dsfn.runtime.clock import Clock, SystemClock
from dsfn.runtime.registry import Registry
from dsfn.runtime.tiers.copies import Copies
from dsfn.runtime.tiers.disk import Disk
from dsfn.runtime.tiers.pruner import Pruner
from dsfn.runtime.tiers.records import Records
from dsfn.runtime.tiers.tiers import SnapshotTiers
from dsfn.snapshots.store import FileStore, SnapshotStore


def make_tiers(
    place: Path,
    connection: apsw.Connection,
    registry: Registry,
    store: SnapshotStore | None = None,
    clock: Clock | None = None,
    max_disk_bytes: int = 0,
    in_use: Callable[[], Collection[str]] = frozenset,
) -> SnapshotTiers:
    """Tiers over the directory `place`/snapshots and, where one is given, a store."""
    clock = clock or SystemClock()
    files, records = FileStore(place / "snapshots"), Records(connection)
    copies = Copies(files, store, timeout_s=60) if store is not None else None
    disk = Disk(files)
    pruner = Pruner(disk, records, registry, clock, copies, max_disk_bytes, in_use)
    return SnapshotTiers(disk, records, pruner, clock, copies)
