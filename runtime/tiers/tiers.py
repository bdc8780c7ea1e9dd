"""Brings snapshots to where they are used, and keeps them there or sends them away.

The tiers are a GPU, the arena, this node's disk and a store that nodes share. Here are the last
two; what brings a snapshot further up is given as `promote`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar

from dsfn.functions.errors import (
    Conflict,
    CorruptSnapshot,
    DsfnError,
    NotFound,
    StorageFull,
    StoreUnavailable,
)
from dsfn.functions.values import dataclass
from dsfn.runtime.clock import Clock
from dsfn.runtime.model import Revision
from dsfn.runtime.tiers.copies import Copies
from dsfn.runtime.tiers.disk import Disk
from dsfn.runtime.tiers.pruner import Pruner
from dsfn.runtime.tiers.pusher import Pusher
from dsfn.runtime.tiers.records import Records
from dsfn.snapshots.format import corrupt
from dsfn.snapshots.sealed import CheckedFile, check_files, is_sound
from dsfn.snapshots.transfer import Transfer

# A store that has just failed is not asked again by every replica that starts.
PULL_AGAIN_AFTER_S = 30.0
TRIM_EVERY_S = 60.0
MAX_CHECKS = 1
CHECK_TIMEOUT_S = 1800.0

T = TypeVar("T")

Promote = Callable[[Revision, Path, Collection[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Prefetched:
    """What came of a prefetch. `reason`: why the snapshot is not where it was to be, or None."""

    revision: Revision
    reason: str | None


@dataclass(eq=False)
class SnapshotTiers:
    """The snapshots of a node. `copies` is None where no store is configured.

    `promote`, given a revision and the directory of its snapshot, brings it further up than
    the disk; `above` tells which tiers above the disk hold a digest.
    """

    disk: Disk
    records: Records
    pruner: Pruner
    clock: Clock
    copies: Copies | None
    promote: Promote | None = None
    above: Callable[[str], tuple[str, ...]] = lambda digest: ()
    pusher: Pusher = field(init=False)
    _faults: dict[str, str] = field(default_factory=dict)
    _pull_again_at_s: dict[str, float] = field(default_factory=dict)
    _damaged_in_store: set[str] = field(default_factory=set)
    _keeper: asyncio.Task[None] | None = None
    _checks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_CHECKS))

    def __post_init__(self) -> None:
        self.pusher = Pusher(self.push)

    async def start(self) -> None:
        """Begins to keep the disk within its limit, and to send what the store has not yet, that
        of an earlier node included."""
        self._keeper = asyncio.create_task(self._keep())
        if self.copies is None:
            return
        here = await asyncio.to_thread(self.disk.files.digests)
        for digest in self.pruner.referred().intersection(here):
            if self.records.of(digest).stored_at_us is None:
                self.pusher.add(digest)
        self.pusher.start()

    async def close(self) -> None:
        """Ends every copy."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._write_uses()
        await self.pusher.close()
        if self.copies is not None:
            await self.copies.close()

    # A replica starts.

    async def ensure(self, digest: str) -> Path | None:
        """The directory of a snapshot, brought from the store where it must be; None when the
        store cannot give it now.

        Raises `CorruptSnapshot` when it is nowhere, or damaged in the store; `ShuttingDown`.
        """
        if not self.disk.files.has(digest) and not await self._fetch(digest):
            return None
        self.records.use(digest, self.clock.now_us())
        return self.disk.files.path(digest)

    async def refetch(self, digest: str) -> bool:
        """Brings another copy of a snapshot in the place of one that is damaged; whether there
        is a store that may have one. Raises as `pull`."""
        if self.copies is None:
            return False
        await self.pull(digest)
        return True

    # A deployment has published.

    async def published(self, digests: Sequence[str]) -> None:
        """These snapshots were just captured, verified and published, and are referred to."""
        for digest in digests:
            self.disk.forget(digest)
            if self.copies is not None:
                self.pusher.add(digest)
        await self.pruner.trim()

    def is_elsewhere(self, digest: str) -> bool:
        """Whether a snapshot that is not here can be had from the store."""
        return self.copies is not None and self.records.of(digest).stored_at_us is not None

    # Somebody wants it so.

    async def pull(self, digest: str) -> None:
        """Brings a snapshot from the store to the disk, in the place of what is there.

        Raises `Conflict` without a store, `NotFound`, `CorruptSnapshot`, `StoreUnavailable`,
        `StorageFull`.
        """
        copies = self._store()
        began_ns = self.clock.monotonic_ns()
        with self._told(digest), self.pruner.hold(digest):
            try:
                if self.pruner.max_disk_bytes:
                    manifest = await copies.ask(lambda store: store.manifest(digest))
                    await self.pruner.trim(manifest.size_bytes)
                await copies.pull(digest)
            except (CorruptSnapshot, NotFound) as error:
                self._note(digest, stored_at_us=None)
                if isinstance(error, CorruptSnapshot):
                    self._damaged_in_store.add(digest)
                raise
        self.disk.forget(digest)
        took_us = (self.clock.monotonic_ns() - began_ns) // 1000
        self._note(digest, stored_at_us=self.clock.now_us(), reload_us=took_us)

    async def bring(self, digest: str) -> None:
        """Has every byte of a snapshot on the disk, from the store where it must be.

        Raises as `pull`.
        """
        if not await self._is_sound(digest):
            await self.pull(digest)

    async def push(self, digest: str) -> None:
        """Brings a snapshot from the disk to the store; a damaged one there is replaced.

        Raises as `pull`.
        """
        copies = self._store()
        with self._told(digest), self.pruner.hold(digest):
            if digest in self._damaged_in_store:
                with suppress(NotFound):
                    await copies.ask(lambda store: store.delete(digest))
                self._damaged_in_store.discard(digest)
            await copies.push(digest)
        self._note(digest, stored_at_us=self.clock.now_us())
        await self.pruner.trim()  # it may leave the disk now

    async def prefetch(self, revisions: Sequence[Revision]) -> list[Prefetched]:
        """Brings the snapshots of these revisions as far up as this node can."""
        named = frozenset(r.snapshot.digest for r in revisions if r.snapshot is not None)
        return list(await asyncio.gather(*(self._prefetch(each, named) for each in revisions)))

    def pin(self, digest: str, pinned: bool) -> None:
        """Says whether a snapshot must stay on the disk whatever else needs its room."""
        self.records.change(digest, pinned=pinned)

    async def check(self, digest: str) -> tuple[CheckedFile, ...]:
        """Every file of a snapshot on the disk against its digest.

        Raises `NotFound`, and `CorruptSnapshot` where not even the manifest can be trusted.
        """
        directory = self.disk.files.path(digest)
        async with self._checks:
            with self.pruner.hold(digest):
                return await _reading(lambda transfer: check_files(directory, transfer))

    # What is known.

    def fault(self, digest: str) -> str | None:
        """What went wrong the last time that the snapshot was to be copied, if it did."""
        return self._faults.get(digest)

    async def _keep(self) -> None:
        """What could not leave because it was in use may leave later."""
        while True:
            with suppress(DsfnError):  # nothing is lost, and the next turn comes
                await self.pruner.trim()
            self._write_uses()
            await asyncio.sleep(TRIM_EVERY_S)

    async def _prefetch(self, revision: Revision, named: Collection[str]) -> Prefetched:
        if revision.snapshot is None or revision.snapshot.quarantined:
            return Prefetched(revision, revision.snapshot_reason)
        digest = revision.snapshot.digest
        with self.pruner.hold(digest):
            try:
                directory = await self.ensure(digest)
                if directory is None:
                    return Prefetched(revision, self.fault(digest))
                if self.promote is not None:
                    await self.promote(revision, directory, named)
            except DsfnError as error:
                return Prefetched(revision, error.message)
        return Prefetched(revision, None)

    async def _fetch(self, digest: str) -> bool:
        """Pulls a snapshot that a replica needs, unless that has just failed; whether it came."""
        if self.copies is None:
            corrupt("it is not on this node's disk, and there is no store", digest)
        loop = asyncio.get_running_loop()
        if loop.time() < self._pull_again_at_s.get(digest, 0):
            return False
        try:
            await self.pull(digest)
        except NotFound:
            corrupt("it is neither on this node's disk nor in the store", digest)
        except (StorageFull, StoreUnavailable):
            self._pull_again_at_s[digest] = loop.time() + PULL_AGAIN_AFTER_S
            return False
        self._pull_again_at_s.pop(digest, None)
        return True

    async def _is_sound(self, digest: str) -> bool:
        try:
            directory = self.disk.files.path(digest)
        except NotFound:
            return False
        async with self._checks:
            with self.pruner.hold(digest):
                return await _reading(lambda transfer: is_sound(directory, transfer))

    def _write_uses(self) -> None:
        with suppress(StorageFull):  # as for `_note`
            self.records.write_uses()

    def _note(self, digest: str, **values: Any) -> None:
        """Remembers something of a snapshot, if the disk has room: without room for that much,
        replicas must start all the same."""
        with suppress(StorageFull):
            self.records.change(digest, **values)

    def _store(self) -> Copies:
        if self.copies is None:
            raise Conflict(
                "This node has no store for snapshots: name one in config.toml, in [snapshots]."
            )
        return self.copies

    @contextmanager
    def _told(self, digest: str) -> Iterator[None]:
        """Remembers why a copy failed, until one works."""
        try:
            yield
        except DsfnError as error:
            self._faults[digest] = error.message
            raise
        self._faults.pop(digest, None)


async def _reading(work: Callable[[Transfer], T]) -> T:
    """Runs work that reads whole files in a thread; it ends with whoever waits for it."""
    transfer = Transfer(CHECK_TIMEOUT_S)
    try:
        return await asyncio.to_thread(work, transfer)
    finally:
        transfer.stop()
