"""What snapshots there are, whose they are and where; and what a person means by a name."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Literal

from dsfn.functions.errors import Conflict, DsfnError, NotFound
from dsfn.functions.values import dataclass
from dsfn.runtime.model import Revision
from dsfn.runtime.registry import Registry
from dsfn.runtime.tiers.records import Record
from dsfn.runtime.tiers.tiers import SnapshotTiers
from dsfn.snapshots.format import Manifest, is_digest
from dsfn.snapshots.reading import read_manifest

MIN_PREFIX_DIGITS = 8

StoreState = Literal["none", "absent", "waiting", "pushing", "stored"]


@dataclass(frozen=True, slots=True)
class Row:
    """One snapshot. `device` is "" where its manifest is not on the disk."""

    digest: str
    bytes: int
    device: str
    revisions: tuple[Revision, ...]
    tiers: tuple[str, ...]
    record: Record


@dataclass(frozen=True, slots=True)
class Listing:
    """Every snapshot that the node knows of. `store_fault`: why the store could not be asked."""

    rows: tuple[Row, ...]
    disk_bytes: int
    store_fault: str | None


@dataclass(frozen=True, slots=True)
class Target:
    """What a name stands for."""

    digest: str
    revisions: tuple[Revision, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The snapshots of a node and of its store."""

    tiers: SnapshotTiers
    registry: Registry

    async def listing(self) -> Listing:
        """All of them, by digest: on the disk, in the store, or referred to and lost."""
        here = await self.tiers.disk.contents()
        revisions = self._revisions()
        there, fault = await self._in_store()
        digests = sorted({*here, *there, *revisions})
        rows = []
        for digest in digests:
            owners = tuple(revisions.get(digest, ()))
            sizes = [r.snapshot.bytes for r in owners if r.snapshot is not None]
            present = here.get(digest)
            rows.append(
                Row(
                    digest,
                    present.bytes if present else there.get(digest) or next(iter(sizes), 0),
                    await self.tiers.disk.device(digest) if present else "",
                    owners,
                    self.where(digest, there),
                    self.tiers.records.of(digest),
                )
            )
        return Listing(tuple(rows), sum(each.bytes for each in here.values()), fault)

    def where(self, digest: str, in_store: Mapping[str, int] | None = None) -> tuple[str, ...]:
        """The tiers that hold a snapshot, the fastest first; what is in the store as of now
        where `in_store` says it, else as remembered."""
        stored = self.tiers.is_elsewhere(digest) if in_store is None else digest in in_store
        on_disk = self.tiers.disk.files.has(digest)
        return (
            *self.tiers.above(digest),
            *(("disk",) if on_disk else ()),
            *(("store",) if stored else ()),
        )

    def store_state(self, digest: str) -> StoreState:
        """How far a snapshot is on its way to the store."""
        if self.tiers.copies is None:
            return "none"
        if self.tiers.copies.progress("push", digest) is not None:
            return "pushing"
        if self.tiers.records.of(digest).stored_at_us is not None:
            return "stored"
        return "waiting" if self.tiers.pusher.waits(digest) else "absent"

    async def manifest(self, digest: str) -> Manifest:
        """What a snapshot is, from the disk or the store. Raises `NotFound`,
        `CorruptSnapshot`, `StoreUnavailable`."""
        files, copies = self.tiers.disk.files, self.tiers.copies
        if copies is None or files.has(digest):
            return (await asyncio.to_thread(read_manifest, files.path(digest)))[1]
        return await copies.ask(lambda store: store.manifest(digest))

    async def resolve(self, name: str) -> Target:
        """The snapshot of a function (its current revision's), of a revision, or of a digest,
        of which the first `MIN_PREFIX_DIGITS` digits or more are enough.

        Raises `NotFound`, `Conflict` when several digests begin so.
        """
        revision = self._revision(name)
        if revision is None:
            return await self._by_digest(name)
        if revision.snapshot is None:
            reason = revision.snapshot_reason or ""
            raise NotFound(
                f"{revision.id} has no snapshot. {reason}".strip(), kind="snapshot", name=name
            )
        digest = revision.snapshot.digest
        return Target(digest, tuple(self._revisions()[digest]))

    def _revision(self, name: str) -> Revision | None:
        try:
            return self.registry.function(name).current
        except NotFound:
            return self.registry.find(name)

    async def _by_digest(self, name: str) -> Target:
        revisions = self._revisions()
        if is_digest(name):
            return Target(name, tuple(revisions.get(name, ())))
        digits = len(name) >= MIN_PREFIX_DIGITS and not name.strip("0123456789abcdef")
        found: set[str] = set()
        if digits:
            known = {*revisions, *await self.tiers.disk.contents()}
            found = {digest for digest in known if digest.startswith(name)}
        if digits and not found:
            there, _ = await self._in_store()
            found = {digest for digest in there if digest.startswith(name)}
        if len(found) > 1:
            raise Conflict(f"{len(found)} snapshots begin with {name}: give more digits of one.")
        if not found:
            raise NotFound(
                f"There is no function, revision or snapshot {name!r}.", kind="snapshot", name=name
            )
        digest = found.pop()
        return Target(digest, tuple(revisions.get(digest, ())))

    def _revisions(self) -> dict[str, list[Revision]]:
        """The revisions of each digest, newest first."""
        found: dict[str, list[Revision]] = defaultdict(list)
        for record in self.registry.functions():
            for entry in self.registry.history(record.name):
                if entry.revision.snapshot is not None:
                    found[entry.revision.snapshot.digest].append(entry.revision)
        return found

    async def _in_store(self) -> tuple[dict[str, int], str | None]:
        """What the store has, by digest; when it cannot be asked, what is remembered of that,
        and why."""
        if self.tiers.copies is None:
            return {}, None
        try:
            listing = await self.tiers.copies.ask(lambda store: store.listing())
        except DsfnError as error:
            known = self._revisions()
            return {d: 0 for d in known if self.tiers.is_elsewhere(d)}, error.message
        return {each.digest: each.bytes for each in listing}, None
