"""What the engine writes, always inside a transaction of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from operator import attrgetter
from typing import Any

import apsw

from dsfn.billing.sqlite import load_queries, transaction
from dsfn.billing.usage import Usage
from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.runtime.columns import add_column
from dsfn.runtime.events.stored import error_text
from dsfn.runtime.workflows.model import Blob, NewRun, RunState, StepState
from dsfn.runtime.workflows.progress import Instance
from dsfn.runtime.workflows.rows import blob_row, packed
from dsfn.runtime.workflows.tally import Tally

QUERIES = load_queries("dsfn.runtime.workflows", "sql/runs.sql")
_UNPOSTED_AT_ONCE = 1000
_usage_row = attrgetter(*(field.name for field in fields(Usage)))


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of a step: its state, and what is known with it."""

    state: StepState
    function: str | None = None
    revision: str | None = None
    finished_at_us: int | None = None
    cached: bool = False
    outcome: int | None = None
    blob: Blob | None = None
    error: DsfnError | None = None


class Journal:
    """Writes runs, steps and usage rows. Belongs to the event loop's thread."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        with transaction(connection):
            connection.execute(QUERIES["schema"])
            add_column(connection, "runs", "key_id", "TEXT NOT NULL DEFAULT ''")

    def first(self, run: NewRun) -> tuple[str, bytes] | None:
        """The id and the digest of the first run with this one's idempotency key."""
        if run.idempotency_key is None:
            return None
        key = (run.tenant, run.revision.workflow, run.idempotency_key)
        found = self._connection.execute(QUERIES["by_key"], key).fetchone()
        return None if found is None else (str(found[0]), bytes(found[1]))

    def insert_run(self, run: NewRun, inputs: str, digest: bytes, now_us: int) -> int:
        """A run that has just been started; gives its number."""
        self._connection.execute(
            QUERIES["insert_run"],
            (
                run.id,
                run.revision.workflow,
                run.revision.id,
                run.tenant,
                run.key_id,
                run.caller,
                run.idempotency_key,
                digest,
                run.traceparent,
                None if run.cause is None else json.dumps(asdict(run.cause)),
                run.retry_of,
                json.dumps(dict(run.pins)),
                inputs,
                now_us,
            ),
        )
        return self._connection.last_insert_rowid()

    def take_over(self, finished: str, run: int) -> None:
        """Copies the steps that the run with the id `finished` has finished."""
        self._connection.execute(QUERIES["take_over"], (finished, run))

    def call_off(self, run: str) -> None:
        """Notes that a run is to end without a result."""
        self._connection.execute(QUERIES["call_off"], (run,))

    def put_step(self, run: int, instance: Instance, tally: Tally, result: StepResult) -> None:
        """What came of a step, in the place of what was there."""
        step, path = instance
        self._connection.execute(
            QUERIES["put_step"],
            (
                run,
                step,
                packed(path),
                result.state,
                result.function,
                result.revision,
                tally.attempts,
                tally.not_before_us,
                tally.stood_in,
                tally.started_at_us,
                result.finished_at_us,
                tally.busy_us,
                tally.held_us,
                tally.cost_nano,
                result.cached,
                " ".join(tally.invocations),
                result.outcome,
                *blob_row(result.blob),
                error_text(result.error),
            ),
        )

    def spend(self, run: int, held_us: int, cost_nano: int) -> None:
        """Adds to what a run has used."""
        self._connection.execute(QUERIES["spend"], (run, held_us, cost_nano))

    def finish(
        self,
        run: int,
        state: RunState,
        now_us: int,
        error: DsfnError | None = None,
        output: Blob | None = None,
    ) -> bool:
        """The end of a run; False when it has ended before."""
        self._connection.execute(
            QUERIES["finish"], (run, state, now_us, error_text(error), *blob_row(output))
        )
        return self._connection.changes() == 1

    def finish_unread(self, run: str, now_us: int, error: DsfnError) -> None:
        """The end of a run that cannot be taken up."""
        self._connection.execute(QUERIES["finish_unread"], (run, now_us, error_text(error)))

    def under_way(self) -> list[str]:
        """The ids of the runs that have not ended, those that started first first."""
        return [str(id_) for (id_,) in self._connection.execute(QUERIES["under_way"])]

    def owe(self, usage: Usage) -> int:
        """A usage row that the ledger is to get; gives its number."""
        text = json.dumps(_usage_row(usage))
        self._connection.execute(QUERIES["insert_usage"], (text,))
        return self._connection.last_insert_rowid()

    def posted(self, up_to: int) -> None:
        """The ledger has the usage rows up to this number."""
        self._connection.execute(QUERIES["posted"], (up_to,))

    def owed(self) -> Iterator[list[tuple[int, Usage]]]:
        """The usage rows that the ledger may not have, in portions, each with its number."""
        last = 0
        while True:
            values = (last, _UNPOSTED_AT_ONCE)
            rows: list[Any] = self._connection.execute(QUERIES["unposted"], values).fetchall()
            if not rows:
                return
            yield [(seq, Usage(*json.loads(text))) for seq, text in rows]
            last = rows[-1][0]


def pins_of(text: str) -> Mapping[str, str]:
    """Reads back the pins of a run."""
    pins: Mapping[str, Any] = json.loads(text)
    return pins
