"""Whether a snapshot on the disk is still the one that was captured, looked at before its first
use.

A replica on the CPU maps its slab and reads no byte of it ahead, so nothing there would notice
a flipped bit. The node reads each slab once, at its start and whenever the file has changed:
about a second for a gigabyte or two, ahead of the calls where it can be. What goes onto a GPU
is checked on its way into the arena.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import field
from functools import partial
from hashlib import sha256
from pathlib import Path

from dsfn.functions.errors import ShuttingDown, SnapshotError
from dsfn.functions.values import dataclass
from dsfn.runtime.deploy.environments import Environments
from dsfn.runtime.model import Revision, SnapshotRef
from dsfn.snapshots.format import CPU, corrupt, slab_file
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.regular import open_regular

_PIECE_BYTES = 1 << 20
# Of a file: device, inode, size, and when its bytes and its inode last changed, in ns.
Identity = tuple[int, int, int, int, int]


@dataclass(eq=False)
class Soundness:
    """What this node has found whole. `root` holds the snapshots by digest."""

    root: Path
    environments: Environments
    _sound: dict[str, Identity | None] = field(default_factory=dict)
    _checks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _ahead: asyncio.Task[None] | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def trust(self, snapshot: SnapshotRef) -> None:
        """Somebody has just read all of the snapshot and found it whole."""
        self._sound[snapshot.digest] = self._identity(snapshot.digest)

    def distrust(self, snapshot: SnapshotRef) -> None:
        """A replica of it has other bytes in memory: the file is read again before its next use."""
        self._sound.pop(snapshot.digest, None)

    async def check(self, revision: Revision, snapshot: SnapshotRef) -> Callable[[], bool]:
        """Returns at once for what was found whole before and has not changed; else when it has
        been read. What it returns says whether that is still so, for a replica that maps it.

        Raises `CorruptSnapshot`, and `SnapshotError` when the libraries of the revision's
        environment are of other versions than at the capture.
        """
        digest = snapshot.digest
        identity = self._identity(digest)
        if not (digest in self._sound and self._sound[digest] == identity):
            if digest not in self._checks:
                work = asyncio.to_thread(self._read, digest, revision.environment)
                task = self._checks[digest] = asyncio.create_task(work)
                task.add_done_callback(partial(self._checked, digest))
            await asyncio.shield(self._checks[digest])
        return lambda: self._identity(digest) == identity

    def check_ahead(self, revisions: Iterable[Revision]) -> None:
        """Reads the snapshots of these revisions in the background, one after the other."""
        self._ahead = asyncio.create_task(self._check_all(tuple(revisions)))

    async def close(self) -> None:
        """Stops reading."""
        self._stop.set()
        tasks = [*self._checks.values(), *([self._ahead] if self._ahead else [])]
        if self._ahead is not None:
            self._ahead.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _check_all(self, revisions: tuple[Revision, ...]) -> None:
        for revision in revisions:
            if revision.snapshot is not None and not revision.snapshot.quarantined:
                with suppress(SnapshotError):  # found again, and told, when a replica starts
                    await self.check(revision, revision.snapshot)

    def _checked(self, digest: str, task: asyncio.Task[None]) -> None:
        del self._checks[digest]
        if not task.cancelled():
            task.exception()  # whoever asked may have gone

    def _read(self, digest: str, environment: str) -> None:
        """Runs in a thread."""
        # Takes longer to import than most of a node, and a function without a snapshot needs none.
        from dsfn.snapshots.libraries import check_libraries

        identity = self._identity(digest)
        _, manifest = read_manifest(self.root / digest, through_links=True)
        check_libraries(manifest.libraries, self.environments.search_path(environment))
        for slab in manifest.slabs:
            if slab.device == CPU and self._digest(self.root / digest / slab.file) != slab.digest:
                corrupt(f"the bytes of {slab.file} differ from their digest", digest)
        self._sound[digest] = identity

    def _digest(self, path: Path) -> str:
        found, piece = sha256(), bytearray(_PIECE_BYTES)
        try:
            with open_regular(path, through_links=True) as file:
                while count := file.readinto(piece):
                    found.update(memoryview(piece)[:count])
                    if self._stop.is_set():
                        raise ShuttingDown("The node is stopping.", retry_after_s=5)
        except OSError as error:  # a disk that cannot read its own sectors is damage like any other
            corrupt(f"{path.name} cannot be read ({error.strerror})", path.parent.name)
        return found.hexdigest()

    def _identity(self, digest: str) -> Identity | None:
        """Of the file that replicas map; None if there is none."""
        try:
            found = (self.root / digest / slab_file(CPU)).stat()
        except OSError:
            return None
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
