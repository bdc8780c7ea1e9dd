"""How functions were before deployments that have not ended, remembered over leaders."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict

import apsw

from dsfn.billing.sqlite import load_queries, transaction
from dsfn.knative.control.publishing import Former

_QUERIES = load_queries("dsfn.knative.control", "sql/unfinished.sql")


class Unfinished:
    """Of each function one, in the control service's database. Belongs to the event loop's thread.
    What changes it raises `StoreUnavailable` while PostgreSQL is away."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        with transaction(connection):
            connection.execute(_QUERIES["schema"])
        found = [Former(**json.loads(text)) for (text,) in connection.execute(_QUERIES["select"])]
        self._formers = {each.function: each for each in found}

    def add(self, former: Former) -> None:
        """The cluster is about to be told of another revision."""
        with transaction(self._connection):
            self._connection.execute(
                _QUERIES["insert"], (former.function, json.dumps(asdict(former)))
            )
        self._formers[former.function] = former

    def discard(self, function: str) -> None:
        """The revision is live, or all is as it was."""
        if function in self._formers:
            with transaction(self._connection):
                self._connection.execute(_QUERIES["delete"], (function,))
            del self._formers[function]

    def beside(self, functions: Collection[str]) -> list[Former]:
        """Those of other functions than these."""
        return [each for each in self._formers.values() if each.function not in functions]
