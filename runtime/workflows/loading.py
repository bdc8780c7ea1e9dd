"""From what is stored of a run to the run in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import field
from typing import Any

import apsw

from dsfn.functions.errors import DsfnError, RunCancelled
from dsfn.functions.values import dataclass
from dsfn.runtime.workflows.active import ActiveRun
from dsfn.runtime.workflows.documents import value_of
from dsfn.runtime.workflows.journal import QUERIES, pins_of
from dsfn.runtime.workflows.model import Cause, WorkflowRevision
from dsfn.runtime.workflows.plan import Plan, plan_of
from dsfn.runtime.workflows.progress import Instance, Progress, restored
from dsfn.runtime.workflows.rows import error_of, unpacked
from dsfn.runtime.workflows.store import no_such_run
from dsfn.runtime.workflows.tally import Tally

_MAX_PLANS = 256


@dataclass(eq=False, slots=True)
class Loader:
    """Reads runs. `revision_of` finds a workflow's revision by its id."""

    connection: apsw.Connection
    revision_of: Callable[[str], WorkflowRevision]
    _plans: dict[str, Plan] = field(default_factory=dict)

    def plan(self, revision: WorkflowRevision) -> Plan:
        """The plan of a revision, made once."""
        plan = self._plans.get(revision.id)
        if plan is None:
            if len(self._plans) >= _MAX_PLANS:
                del self._plans[next(iter(self._plans))]
            plan = self._plans[revision.id] = plan_of(revision.dag)
        return plan

    def load(self, id_: str) -> ActiveRun:
        """A run as it is stored. Raises `NotFound`, also when its revision is gone."""
        row = self._row(id_)
        plan = self.plan(self.revision_of(row[3]))
        run = ActiveRun(
            seq=row[0],
            id=row[1],
            workflow=row[2],
            revision=row[3],
            tenant=row[4],
            key_id=row[5],
            caller=row[6],
            traceparent=row[7],
            cause=None if row[8] is None else Cause(**json.loads(row[8])),
            retry_of=row[9],
            pins=pins_of(row[10]),
            inputs={name: value_of(value) for name, value in json.loads(row[11]).items()},
            started_at_us=row[13],
            plan=plan,
            progress=Progress(plan),
        )
        self.reload(run)
        return run

    def reload(self, run: ActiveRun, ending: DsfnError | None = None) -> None:
        """Makes a run in memory what is stored of it; its calls under way go on. `ending`: why
        it was to end already."""
        row = self._row(run.id)
        # Steps that wait to be tried again become ready below, and get new ones.
        for waiting in [instance for instance in run.timers if instance is not None]:
            run.timers.pop(waiting).cancel()
        run.held_us, run.cost_nano = row[14], row[15]
        run.ending = RunCancelled("The run was cancelled.") if row[12] else ending
        rows = self.connection.execute(QUERIES["settled"], (run.seq,))
        run.progress = restored(run.plan, {(s, unpacked(p)): outcome for s, p, outcome in rows})
        busy = run.attempts.keys() | run.resolving.keys()
        run.tallies = {i: t for i, t in run.tallies.items() if i in busy}
        self._read_unsettled(run)
        run.callable.clear()
        pending = [i for i in run.progress.ready if i not in busy]
        run.progress.ready.clear()
        run.progress.ready.extend(pending)

    def _read_unsettled(self, run: ActiveRun) -> None:
        for row in self.connection.execute(QUERIES["unsettled"], (run.seq,)):
            instance: Instance = (row[0], unpacked(row[1]))
            run.tallies[instance] = _tally_of(row)
            if row[2] == "failed" and run.ending is None:
                run.ending = error_of(row[11])

    def _row(self, id_: str) -> Any:
        row = self.connection.execute(QUERIES["to_resume"], (id_,)).fetchone()
        if row is None:
            raise no_such_run(id_)
        return row


def _tally_of(row: Any) -> Tally:
    return Tally(
        attempts=row[3],
        not_before_us=row[4],
        stood_in=bool(row[5]),
        started_at_us=row[6],
        busy_us=row[7],
        held_us=row[8],
        cost_nano=row[9],
        invocations=tuple(row[10].split()),
    )
