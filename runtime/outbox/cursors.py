"""How far each receiver of usage has come in the journal, in the node's database."""

from __future__ import annotations

import apsw

from dsfn.billing.sqlite import load_queries, transaction

_QUERIES = load_queries("dsfn.runtime.outbox", "sql/cursors.sql")


class Cursors:
    """Belongs to the event loop's thread, as the database's connection does."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        with transaction(connection):
            connection.execute(_QUERIES["schema"])

    def get(self, sink: str, chain: int) -> int:
        """The number of the last row of a chain that a receiver has, 0 for none."""
        row = self._connection.execute(_QUERIES["select"], (sink, chain)).fetchone()
        return int(row[0]) if row else 0

    def advance(self, sink: str, chain: int, seq: int) -> None:
        """Notes that a receiver has all rows up to this one. Raises `StorageFull`."""
        with transaction(self._connection) as connection:
            connection.execute(_QUERIES["advance"], (sink, chain, seq))
