"""Runs and their steps in the node's database, to be looked at."""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Iterator, Mapping

import apsw

from dsfn.billing.sqlite import transaction
from dsfn.functions.errors import NotFound
from dsfn.runtime.clock import Clock
from dsfn.runtime.workflows.documents import value_of
from dsfn.runtime.workflows.journal import QUERIES, pins_of
from dsfn.runtime.workflows.model import RunRecord, RunState, StepRecord, Value
from dsfn.runtime.workflows.rows import run_of, step_of

KEEP_RUNS_S = 62 * 24 * 3600
_PRUNE_ROWS = 1000
_NEWEST = 2**63 - 1
_NOT_TRIED_AGAIN = "NOT EXISTS (SELECT 1 FROM runs AS later WHERE later.retry_of = runs.id)"
_REFERENCE = re.compile(r"blob:sha256:[0-9a-f]{64}")


class RunStore:
    """The runs that are kept. Belongs to the event loop's thread; the engine, which writes them,
    has made their tables."""

    def __init__(self, connection: apsw.Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    def get(self, run: str) -> RunRecord:
        """Raises `NotFound`."""
        row = self._connection.execute(QUERIES["get"], (run,)).fetchone()
        if row is None:
            raise no_such_run(run)
        return run_of(row)

    def inputs(self, run: str) -> Mapping[str, Value]:
        """What a run was started with. Raises `NotFound`."""
        row = self._connection.execute(QUERIES["inputs"], (run,)).fetchone()
        if row is None:
            raise no_such_run(run)
        return {name: value_of(document) for name, document in json.loads(row[0]).items()}

    def of_key(self, tenant: str, workflows: str, key: str) -> RunRecord | None:
        """The first run with an idempotency key among those of the workflows whose names begin
        with `workflows`, which is ASCII."""
        after = workflows[:-1] + chr(ord(workflows[-1]) + 1)
        found = self._connection.execute(
            QUERIES["by_key_and_prefix"], (tenant, workflows, after, key)
        ).fetchone()
        return None if found is None else self.get(str(found[0]))

    def list(
        self,
        workflow: str | None = None,
        state: RunState | None = None,
        limit: int = 100,
        before: str | None = None,
        tenant: str | None = None,
    ) -> builtins.list[RunRecord]:
        """Runs, those that started last first; `before` is the last id of the page before.

        Raises `NotFound` when there is no such run.
        """
        chosen = {"workflow": workflow, "state": state, "tenant": tenant}
        return self._list(chosen, limit, before)

    def dead(
        self, limit: int = 100, before: str | None = None, tenant: str | None = None
    ) -> builtins.list[RunRecord]:
        """Runs that failed and were not tried again, in the order and pages of `list`.

        Raises `NotFound` when there is no run `before`.
        """
        chosen = {"state": RunState.FAILED, "tenant": tenant}
        return self._list(chosen, limit, before, f" AND {_NOT_TRIED_AGAIN}")

    def is_dead(self, run: str) -> bool:
        """Whether a run failed and was not tried again."""
        return self._connection.execute(QUERIES["is_dead"], (run,)).fetchone() is not None

    def steps(
        self, run: str, limit: int = 1000, after: int = 0
    ) -> builtins.list[tuple[int, StepRecord, int | None]]:
        """What is stored of a run's steps, in the order in which it came about: the number of
        each row, its record, and the outcome of a decision or fan-out. Raises `NotFound`."""
        rows = self._connection.execute(QUERIES["steps"], (self._seq(run), after, limit))
        return [(row[0], step_of(row[1:]), row[15]) for row in rows]

    def outermost(self, run: str) -> Mapping[str, int | None]:
        """What is stored of the steps outside of every map: the outcome, if any, by step."""
        rows = self._connection.execute(QUERIES["outermost"], (self._seq(run),))
        return {str(step): None if outcome is None else int(outcome) for step, outcome in rows}

    def pinned(self) -> frozenset[str]:
        """The revisions of functions that runs under way keep to."""
        rows = self._connection.execute(QUERIES["pins"])
        return frozenset(revision for (text,) in rows for revision in pins_of(text).values())

    def workflow_revisions(self) -> frozenset[str]:
        """The revisions of workflows that there are runs of."""
        return frozenset(revision for (revision,) in self._connection.execute(QUERIES["revisions"]))

    def prune(self) -> int:
        """Drops some of the rows of runs that ended longer ago than they are kept; gives the
        number of rows that went."""
        before_us = self._clock.now_us() - KEEP_RUNS_S * 1_000_000
        row = self._connection.execute(QUERIES["ended_before"], (before_us,)).fetchone()
        if row is None:
            return 0
        with transaction(self._connection) as connection:
            connection.execute(QUERIES["prune_steps"], (row[0], _PRUNE_ROWS))
            if gone := connection.changes():
                return gone
            connection.execute(QUERIES["prune_run"], row)
            return connection.changes()

    def _list(
        self, chosen: Mapping[str, str | None], limit: int, before: str | None, more: str = ""
    ) -> builtins.list[RunRecord]:
        """The runs with these values in these columns, where they are not None."""
        newest = _NEWEST if before is None else self._seq(before)
        equal = {column: value for column, value in chosen.items() if value is not None}
        conditions = "".join(f" AND {column} = ?" for column in equal)
        query = f"{QUERIES['list']}{conditions}{more} ORDER BY seq DESC LIMIT ?"
        rows = self._connection.execute(query, (newest, *equal.values(), limit))
        return [run_of(row) for row in rows]

    def _seq(self, run: str) -> int:
        row = self._connection.execute(QUERIES["seq"], (run,)).fetchone()
        if row is None:
            raise no_such_run(run)
        return int(row[0])


def references(connection: apsw.Connection) -> Iterator[str]:
    """The blobs that runs refer to, read on any connection to the node's database."""
    for (ref,) in connection.execute(QUERIES["references"]):
        yield ref
    for (text,) in connection.execute(QUERIES["texts"]):
        yield from _REFERENCE.findall(text)


def no_such_run(run: str) -> NotFound:
    """The error for an id that no run has."""
    return NotFound(f"There is no run {run!r}.", kind="run", name=run)
