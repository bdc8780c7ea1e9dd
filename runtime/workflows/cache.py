"""Results of steps that are used again: the same revision on the same input."""

from __future__ import annotations

from collections.abc import Iterable

import apsw

from dsfn.billing.sqlite import load_queries, transaction
from dsfn.runtime.clock import Clock
from dsfn.runtime.workflows.model import Blob

KEEP_CACHED_S = 30 * 24 * 3600
MAX_CACHED = 100_000
_PRUNE_ROWS = 1000
_QUERIES = load_queries("dsfn.runtime.workflows", "sql/cache.sql")


class ResultCache:
    """What revisions gave before, in the node's database.

    `digest` is that of `dsfn.runtime.events.stored.request_digest`: it covers the content type
    and the body of the call. A part that is in a body by reference is covered, too, because its
    reference is its digest. Belongs to the event loop's thread.
    """

    def __init__(
        self, connection: apsw.Connection, clock: Clock, max_cached: int = MAX_CACHED
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._max_cached = max_cached
        with transaction(connection):
            connection.execute(_QUERIES["schema"])

    def get(self, revision: str, digest: bytes) -> Blob | None:
        """The result, None when there is none. A blob of it is safe from being collected only
        until another row refers to it: write that in the same transaction."""
        row = self._connection.execute(_QUERIES["get"], (revision, digest)).fetchone()
        return None if row is None else Blob(*row)

    def put(self, revision: str, digest: bytes, result: Blob) -> None:
        """Keeps a result, inside the caller's transaction; one that is there already stays."""
        self._connection.execute(
            _QUERIES["put"],
            (
                revision,
                digest,
                result.content_type,
                result.size_bytes,
                result.inline,
                result.ref,
                result.name,
                self._clock.now_us(),
            ),
        )

    def prune(self) -> int:
        """Drops some of what is too old or too much, the oldest first; gives their number."""
        before_us = self._clock.now_us() - KEEP_CACHED_S * 1_000_000
        with transaction(self._connection) as connection:
            connection.execute(_QUERIES["prune"], (before_us, self._max_cached, _PRUNE_ROWS))
            return connection.changes()


def blobs_of_cached_results(connection: apsw.Connection) -> Iterable[str]:
    """The blobs that cached results are in, read on any connection to the node's database."""
    return (ref for (ref,) in connection.execute(_QUERIES["references"]))
