"""Snapshots that do not restore: counted, fetched again where that can be, and kept from use."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import field

from dsfn.functions.errors import (
    BadMessage,
    CorruptSnapshot,
    DeviceFault,
    DsfnError,
    NotFound,
    SnapshotError,
    StorageFull,
    Unavailable,
)
from dsfn.functions.values import dataclass
from dsfn.runtime.model import Revision, SnapshotRef
from dsfn.runtime.revisions import Revisions

# Brings another copy of the snapshot of this digest in the place of the one that is there; false
# if it cannot be had.
Refetch = Callable[[str], Awaitable[bool]]

# While the store that may have a good copy is away.
FETCH_AGAIN_S = 30.0
_LOG = logging.getLogger("dsfn.quarantine")


@dataclass(eq=False)
class Quarantine:
    """Which snapshots replicas may start from.

    One that is damaged is fetched again, once the store can be reached; one that is damaged then,
    too, of which there is no other copy, or which has failed `max_failed_restores` times since it
    was last restored, is quarantined.
    """

    registry: Revisions
    max_failed_restores: int
    refetch: Refetch
    failed_restores: Counter[str] = field(default_factory=Counter)
    _failures: Counter[str] = field(default_factory=Counter)
    _refetched: set[str] = field(default_factory=set)
    _fetching: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def usable(self, revision: Revision) -> SnapshotRef | None:
        """The snapshot to start a replica from, None if there is none that is good."""
        known = self.registry.find(revision.id) or revision  # what was deleted may still serve
        snapshot = known.snapshot
        if snapshot is None or snapshot.quarantined or snapshot.digest in self._fetching:
            return None
        return snapshot

    def failed(self, revision: Revision, error: SnapshotError) -> None:
        """A restore has failed. Call from the node's loop."""
        self.failed_restores[revision.function] += 1
        snapshot = self.usable(revision)
        if snapshot is None or isinstance(error, DeviceFault | BadMessage):
            return  # it is not to blame
        digest = snapshot.digest
        if not isinstance(error, CorruptSnapshot):
            self._failures[digest] += 1
            if self._failures[digest] >= self.max_failed_restores:
                times = f"Restores that failed: {self._failures[digest]}."
                self._shut(revision, digest, f"{times} {error.message}")
        elif digest in self._refetched:
            self._shut(revision, digest, f"A second copy was damaged, too. {error.message}")
        else:
            work = self._fetch(revision, digest, error)
            self._fetching[digest] = asyncio.get_running_loop().create_task(work)

    def restored(self, digest: str) -> None:
        """A replica has started from it: what failed before that counts no more."""
        self._forget(digest)

    async def close(self) -> None:
        """Stops fetching."""
        for task in self._fetching.values():
            task.cancel()
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)

    async def _fetch(self, revision: Revision, digest: str, error: SnapshotError) -> None:
        try:
            fetched = await self._refetch(revision, digest)
        finally:
            del self._fetching[digest]
        if fetched:
            self._refetched.add(digest)
        else:
            self._shut(revision, digest, error.message)

    async def _refetch(self, revision: Revision, digest: str) -> bool:
        """Whether there was another copy that is not damaged; asks until the store is there, as
        long as somebody wants it."""
        while self.registry.find(revision.id) is not None:
            try:
                return await self.refetch(digest)
            except (Unavailable, StorageFull):
                await asyncio.sleep(FETCH_AGAIN_S)
            except DsfnError:  # it is not there, or has the same damage
                return False
        return False

    def _shut(self, revision: Revision, digest: str, reason: str) -> None:
        # On a full disk it stays in use, and the next failure tries again; a function that was
        # deleted meanwhile has no snapshot.
        with suppress(StorageFull, NotFound):
            self.registry.quarantine(revision.id, f"The snapshot is quarantined. {reason}")
            _LOG.warning(
                "%s: its snapshot is quarantined, and setup() runs instead. %s",
                revision.id,
                reason,
            )
            # What is captured anew may well have the same digest.
            self._forget(digest)

    def _forget(self, digest: str) -> None:
        self._failures.pop(digest, None)
        self._refetched.discard(digest)
