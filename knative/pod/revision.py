"""The one revision that a pod serves, and its snapshot."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path

from dsfn.functions.errors import NotFound, StorageFull, StoreUnavailable
from dsfn.functions.values import dataclass
from dsfn.runtime.model import Revision
from dsfn.runtime.tiers.copies import Copies
from dsfn.snapshots.format import PAGE_BYTES, corrupt


def as_served(revision: Revision) -> Revision:
    """A revision as one pod serves it. How many replicas there are is the number of pods, what it
    requires is part of the image, and nothing is imported ahead but by the one replica itself."""
    options = replace(revision.options, min_replicas=0, max_replicas=1)
    return replace(revision, options=options, environment="", modules=())


def arena_bytes(revision: Revision) -> int:
    """What the pod's arena has to hold: the weights of one snapshot, which the pod's requested
    memory has in it, and not half of a node's that all its pods have together."""
    if revision.snapshot is None:
        return PAGE_BYTES
    # No more slabs than GPUs, and each begins a page.
    return revision.snapshot.bytes + ceil(revision.options.gpu) * PAGE_BYTES


@dataclass(eq=False)
class OneRevision:
    """`Revisions` of one."""

    served: Revision

    def route(self, function: str) -> Revision:
        """See `Revisions`."""
        if function != self.served.function:
            raise NotFound(f"There is no function {function!r}.", kind="function", name=function)
        return self.served

    def revision(self, revision: str) -> Revision:
        """See `Revisions`."""
        if revision != self.served.id:
            raise NotFound(f"There is no revision {revision!r}.", kind="revision", name=revision)
        return self.served

    def find(self, revision: str) -> Revision | None:
        """See `Revisions`."""
        return self.served if revision == self.served.id else None

    def serving(self) -> frozenset[str]:
        """See `Revisions`."""
        return frozenset((self.served.id,))

    def pinned(self) -> frozenset[str]:
        """See `Revisions`."""
        return frozenset()

    def quarantine(self, revision: str, reason: str) -> None:
        """See `Revisions`. It holds for this pod: the next one may have a better disk."""
        found = self.revision(revision)
        if found.snapshot is not None:
            snapshot = replace(found.snapshot, quarantined=True)
            self.served = replace(found, snapshot=snapshot, snapshot_reason=reason)


@dataclass(frozen=True, slots=True)
class PulledSnapshots:
    """`SnapshotSource`: what is not on the pod's disk is pulled from the store."""

    copies: Copies

    async def ensure(self, digest: str) -> Path | None:
        """See `SnapshotSource`."""
        files = self.copies.files
        if not files.has(digest):
            try:
                await self.copies.pull(digest)
            except NotFound:
                corrupt("it is not in the store", digest)
            except (StorageFull, StoreUnavailable):
                return None
        return files.path(digest)

    async def refetch(self, digest: str) -> bool:
        """Brings another copy in the place of one that is damaged. Raises as `Copies.pull`."""
        await self.copies.pull(digest)
        return True
