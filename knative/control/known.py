"""Which functions the cluster may have, remembered over leaders: each removes what one before has
begun to, or has brought there and not made live."""

from __future__ import annotations

from collections.abc import Collection

import apsw

from dsfn.billing.sqlite import load_queries, transaction

_QUERIES = load_queries("dsfn.knative.control", "sql/known.sql")


class KnownFunctions:
    """Names of functions, in the control service's database. Belongs to the event loop's thread.
    What changes it raises `StoreUnavailable` while PostgreSQL is away."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        with transaction(connection):
            connection.execute(_QUERIES["schema"])
        self._names = {str(name) for (name,) in connection.execute(_QUERIES["select"])}

    def add(self, functions: Collection[str]) -> None:
        """The cluster is about to be told of these."""
        if fresh := set(functions) - self._names:
            with transaction(self._connection):
                self._connection.executemany(_QUERIES["insert"], [(each,) for each in fresh])
            self._names |= fresh

    def discard(self, function: str) -> None:
        """Nothing of it is left there."""
        with transaction(self._connection):
            self._connection.execute(_QUERIES["delete"], (function,))
        self._names.discard(function)

    def beside(self, *functions: Collection[str]) -> set[str]:
        """Those that are in none of these."""
        return self._names.difference(*functions)
