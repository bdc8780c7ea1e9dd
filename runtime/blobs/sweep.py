"""Blobs that nothing needs any more, found and removed.

A blob goes when nobody has put or asked for it for `KEEP_S` and nothing refers to it: no row of
the node's database, no other blob. Between the look at the database and the removal somebody may
put it again and refer to it; then its age is another, which is seen before it is removed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import closing
from itertools import islice
from pathlib import Path

import apsw

from dsfn.billing.sqlite import BUSY_TIMEOUT_MS
from dsfn.functions.errors import DsfnError
from dsfn.runtime.blobs.files import Aged
from dsfn.runtime.blobs.references import digests_in
from dsfn.runtime.blobs.store import BlobStore

KEEP_S = 24 * 3600
EVERY_S = 3600.0
FIRST_S = 60.0
# How many blobs are compared with the database in one go.
MAX_CANDIDATES = 10_000
_LOG = logging.getLogger("dsfn.blobs")

References = Callable[[apsw.Connection], Iterable[str | bytes]]
"""What part of a node's database says of blobs: any texts that have references in them. It is
called in a thread of its own, with a connection that only reads."""


class Sweeper:
    """Removes a node's blobs that nothing needs, every hour.

    `owners` are all that refer to blobs: what none of them names is taken for garbage.
    """

    def __init__(
        self,
        blobs: BlobStore,
        database: Path,
        owners: Sequence[References],
        keep_s: float = KEEP_S,
    ) -> None:
        self._blobs = blobs
        self._database = database
        self._owners = owners
        self._keep_s = keep_s
        self._stop = threading.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins, a minute from now."""
        self._task = asyncio.create_task(self._run(), name="blob-sweeper")

    async def close(self) -> None:
        """Stops, in the middle of a sweep as well."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def sweep(self) -> int:
        """Looks at every blob once and gives the number of those removed.

        Raises `StoreUnavailable`, and `apsw.Error` when the database cannot be read; what is not
        known to be garbage is there then.
        """
        removed = 0
        aged = iter(self._blobs.aged(self._keep_s))
        while candidates := {b.digest: b for b in islice(aged, MAX_CANDIDATES)}:
            needed = self._needed_of(candidates.keys())
            removed += sum(self._remove(b) for d, b in candidates.items() if d not in needed)
            if self._stop.is_set():
                break
        self._blobs.evict(self._keep_s)
        return removed

    async def _run(self) -> None:
        pause_s = FIRST_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = EVERY_S
            try:
                removed = await asyncio.to_thread(self.sweep)
                if removed:
                    _LOG.info("Removed %d blobs that nothing refers to.", removed)
            except (DsfnError, apsw.Error, OSError) as error:
                _LOG.warning("Blobs that nothing needs stay for now: %s", error)

    def _remove(self, blob: Aged) -> bool:
        return not self._stop.is_set() and self._blobs.remove(blob)

    def _needed_of(self, candidates: Set[str]) -> set[str]:
        """Those that something refers to; what is held of the references is no more than that."""
        needed = {digest for digest in self._blobs.links() if digest in candidates}
        with closing(self._open()) as connection:
            # One transaction is one moment: what moves from table to table is seen in one.
            connection.execute("BEGIN")
            for text in self._texts(connection):
                needed |= digests_in(text) & candidates
        return needed

    def _texts(self, connection: apsw.Connection) -> Iterator[str | bytes]:
        for owner in self._owners:
            yield from owner(connection)

    def _open(self) -> apsw.Connection:
        connection = apsw.Connection(str(self._database), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        return connection
