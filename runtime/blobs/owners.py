"""Whose a blob is: a reference is worth nothing to a tenant that did not come by its bytes."""

from __future__ import annotations

from collections.abc import Iterable

import apsw

from dsfn.billing.periods import DAY_US
from dsfn.billing.sqlite import load_queries, transaction
from dsfn.functions.errors import InvalidInput
from dsfn.runtime.blobs.references import REF_PREFIX
from dsfn.runtime.clock import Clock

# A blob that nothing needs goes much sooner; one that is needed is named again.
KEEP_OWNERS_S = 62 * 24 * 3600
_PRUNE_ROWS = 1000
_QUERIES = load_queries("dsfn.runtime.blobs", "sql/owners.sql")


class BlobOwners:
    """Knows the tenants of blobs, in the node's database. Belongs to the event loop's thread.

    The tables of deliveries and of runs must have been made.
    """

    def __init__(self, connection: apsw.Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        with transaction(connection):
            connection.execute(_QUERIES["schema"])

    def add(self, tenant: str, digest: str) -> None:
        """A tenant has put a blob. Raises `StorageFull`."""
        with transaction(self._connection) as connection:
            connection.execute(_QUERIES["put"], (tenant, digest, self._clock.now_us()))

    def owns(self, tenant: str, digest: str) -> bool:
        """Whether a tenant has put a blob, or got it as a result."""
        row = self._connection.execute(_QUERIES["get"], (tenant, digest)).fetchone()
        if row is None:
            ref = f"{REF_PREFIX}{digest}"
            got = self._connection.execute(_QUERIES["got"], (tenant, ref)).fetchone()
            return got is not None and bool(got[0])
        if self._clock.now_us() - int(row[0]) > DAY_US:
            self.add(tenant, digest)
        return True

    def require(self, tenant: str, digests: Iterable[str]) -> None:
        """Raises `InvalidInput` for a blob that is not the tenant's, whether it is there or not."""
        for digest in digests:
            if not self.owns(tenant, digest):
                ref = f"{REF_PREFIX}{digest}"
                raise InvalidInput(f"{ref!r} refers to what does not exist.", field="$ref")

    def prune(self) -> int:
        """Forgets some of what was named longer ago than it is kept; gives the number."""
        before_us = self._clock.now_us() - KEEP_OWNERS_S * 1_000_000
        with transaction(self._connection) as connection:
            connection.execute(_QUERIES["prune"], (before_us, _PRUNE_ROWS))
            return connection.changes()
