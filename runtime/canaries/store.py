"""Canaries in the node's database: they outlive the node."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import apsw

from dsfn.billing.sqlite import load_queries, transaction
from dsfn.runtime.canaries.canary import Canary, CanaryState, Terms

_QUERIES = load_queries("dsfn.runtime.canaries", "sql/canaries.sql")


class CanaryStore:
    """Belongs to the event loop's thread, as the database's connection does."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        with transaction(connection):
            connection.execute(_QUERIES["schema"])

    def put(self, canary: Canary) -> None:
        """Writes how a canary is now, inside the caller's transaction."""
        row = {**asdict(canary), **asdict(canary.terms), "seen": json.dumps(dict(canary.seen))}
        del row["terms"]
        self._connection.execute(_QUERIES["put"], row)

    def save(self, canary: Canary) -> None:
        """The same in a transaction of its own."""
        with transaction(self._connection):
            self.put(canary)

    def find(self, function: str) -> Canary | None:
        """The last canary of a function, None when it had none."""
        row = self._connection.execute(_QUERIES["get"], {"function": function}).fetchone()
        return None if row is None else _canary(row)

    def running(self) -> list[Canary]:
        """Those that are to be looked at."""
        return [_canary(row) for row in self._connection.execute(_QUERIES["running"])]


def _canary(row: tuple[Any, ...]) -> Canary:
    function, revision, baseline, percent, promote_after_s, max_error_percent, max_p99_us = row[:7]
    started_at_us, seen, calls, failed, slow, state, ended_at_us, reason = row[7:]
    return Canary(
        function,
        revision,
        baseline,
        Terms(percent, promote_after_s, max_error_percent, max_p99_us),
        started_at_us,
        {int(chain): number for chain, number in json.loads(seen).items()},
        calls,
        failed,
        slow,
        CanaryState(state),
        ended_at_us,
        reason,
    )
