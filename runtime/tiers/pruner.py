"""Keeps a node's disk within its limit: what is let go of, and what must not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import field, replace

from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.runtime.clock import Clock
from dsfn.runtime.registry import Registry
from dsfn.runtime.tiers.copies import Copies
from dsfn.runtime.tiers.disk import Disk
from dsfn.runtime.tiers.eviction import OnDisk, Pruned, Situation, over_the_limit, unused
from dsfn.runtime.tiers.records import Records


@dataclass(eq=False)
class Pruner:
    """Deletes snapshots from the disk. `copies` is None where there is no store, `max_disk_bytes`
    0 where there is no limit; `in_use` tells which digests have replicas."""

    disk: Disk
    records: Records
    registry: Registry
    clock: Clock
    copies: Copies | None
    max_disk_bytes: int
    in_use: Callable[[], Collection[str]]
    _held: Counter[str] = field(default_factory=Counter)

    async def prune(self, dry_run: bool) -> list[Pruned]:
        """Deletes what nothing refers to and what is over the limit; what it was, or with
        `dry_run` would be."""
        found, situation = await self._situation()
        gone = list(unused(found, situation))
        dropped = {each.digest for each in gone}
        left = [each for each in found if each.record.digest not in dropped]
        gone += over_the_limit(left, situation, 0)
        return gone if dry_run else [each for each in gone if await self._drop(each.digest)]

    async def trim(self, more_bytes: int = 0) -> None:
        """Makes room for so much more under the limit, as far as that can be."""
        if self.max_disk_bytes:
            found, situation = await self._situation()
            for each in over_the_limit(found, situation, more_bytes):
                await self._drop(each.digest)

    def referred(self) -> frozenset[str]:
        """The digests that revisions refer to, old ones and those that runs need included."""
        names = (record.name for record in self.registry.functions())
        revisions = [entry.revision for name in names for entry in self.registry.history(name)]
        revisions += self.registry.retained()
        return frozenset(r.snapshot.digest for r in revisions if r.snapshot is not None)

    @contextmanager
    def hold(self, digest: str) -> Iterator[None]:
        """Inside the block the snapshot stays on the disk."""
        self._held[digest] += 1
        try:
            yield
        finally:
            self._held[digest] -= 1
            if not self._held[digest]:
                del self._held[digest]

    async def _situation(self) -> tuple[list[OnDisk], Situation]:
        found = []
        for digest, each in (await self.disk.contents()).items():
            record = self.records.of(digest)
            if self.copies is None:  # what was in a store once cannot be had from there now
                record = replace(record, stored_at_us=None)
            found.append(OnDisk(record, each.bytes, each.published_at_us))
        in_use = {*self.in_use(), *self._held}
        now_us = self.clock.now_us()
        return found, Situation(now_us, self.max_disk_bytes, self.referred(), in_use)

    async def _drop(self, digest: str) -> bool:
        """Deletes a snapshot, but not the last copy of one that is needed; whether it did."""
        needed = digest in self.referred()
        if needed and not await self._is_stored(digest):
            return False
        if digest in self.in_use() or digest in self._held:
            return False  # since the decision
        await self.disk.delete(digest)
        if not needed:
            self.records.forget(digest)
        return True

    async def _is_stored(self, digest: str) -> bool:
        """Whether the store has a snapshot at this moment; what somebody deleted there counts no
        more."""
        if self.copies is None:
            return False
        try:
            there = await self.copies.ask(lambda store: store.has(digest))
        except DsfnError:
            return False
        if not there:
            self.records.change(digest, stored_at_us=None)
        return there
