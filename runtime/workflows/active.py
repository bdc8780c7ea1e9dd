"""A run that is under way, in memory. All of it can be had again from what is stored."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import field
from typing import Any, Literal

import apsw

from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import Call
from dsfn.runtime.workflows.journal import QUERIES
from dsfn.runtime.workflows.model import Blob, Cause, Path, RunRecord, RunState, Value
from dsfn.runtime.workflows.plan import Plan
from dsfn.runtime.workflows.progress import Instance, Progress
from dsfn.runtime.workflows.recent import Recent
from dsfn.runtime.workflows.rows import blob_of, packed, unpacked
from dsfn.runtime.workflows.tally import Tally

_READ_AHEAD_ROWS = 256
# What a value takes that is remembered, beside its bytes.
_ROW_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Allowance:
    """The most that an attempt may cost, and the budget that this is left of."""

    nano: int
    budget_nano: int
    of: Literal["run", "step"]


@dataclass(eq=False, slots=True)
class Attempt:
    """One attempt of a step, under way, and what it may cost at most."""

    function: str
    revision: str
    call_id: str
    allowance: Allowance | None = None
    task: asyncio.Task[None] | None = None


@dataclass(eq=False, slots=True)
class ActiveRun:
    """One run.

    `callable`: calls that can be made now. `attempts`: those under way. `resolving`: decisions,
    fan-outs and, under None, the output that are being worked out in a thread. `timers`: of
    steps that wait to be tried again, and, under None, of the run's timeout. `ending`: why it
    will end as soon as nothing of it runs.
    """

    seq: int
    id: str
    workflow: str
    revision: str
    tenant: str
    key_id: str
    caller: str
    traceparent: str | None
    cause: Cause | None
    retry_of: str | None
    pins: Mapping[str, str]
    inputs: Mapping[str, Value]
    started_at_us: int
    plan: Plan
    progress: Progress
    held_us: int = 0
    cost_nano: int = 0
    callable: deque[Instance] = field(default_factory=deque)
    tallies: dict[Instance, Tally] = field(default_factory=dict)
    attempts: dict[Instance, Attempt] = field(default_factory=dict)
    resolving: dict[Instance | None, asyncio.Task[Any] | None] = field(default_factory=dict)
    timers: dict[Instance | None, asyncio.TimerHandle] = field(default_factory=dict)
    ending: DsfnError | None = None
    offered: bool = False

    def call(self, instance: Instance) -> Call:
        """The step of an instance that is a call."""
        step = self.plan.nodes[instance[0]].step
        assert isinstance(step, Call)
        return step

    def tally(self, instance: Instance) -> Tally:
        """What the attempts of an instance have come to."""
        return self.tallies.get(instance) or Tally()

    @property
    def reserved_nano(self) -> int:
        """What the calls under way may still cost, as far as a budget binds them."""
        return sum(a.allowance.nano for a in self.attempts.values() if a.allowance is not None)

    @property
    def correlation(self) -> str:
        """What all events of a run, and of what it follows from, have in common."""
        return self.id if self.cause is None else self.cause.correlation

    def record(self, state: RunState = RunState.RUNNING) -> RunRecord:
        """What is known of it now."""
        return RunRecord(
            id=self.id,
            workflow=self.workflow,
            revision=self.revision,
            state=state,
            tenant=self.tenant,
            caller=self.caller,
            started_at_us=self.started_at_us,
            finished_at_us=None,
            held_us=self.held_us,
            cost_nano=self.cost_nano,
            retry_of=self.retry_of,
        )


@dataclass(frozen=True, slots=True)
class StoredOutcomes:
    """The results of a run, from the database and from what was read of it before."""

    connection: apsw.Connection
    seq: int
    run: str
    recent: Recent[Hashable, Any]

    def result(self, step: str, path: Path) -> Blob:
        """What a call gave."""
        known: Blob | None = self.recent.get((self.run, step, path))
        return self._read_from(step, path) if known is None else known

    def outcome(self, step: str, path: Path) -> int:
        """The branch that a `Decide` took, the number of items of an `Each`."""
        known: int | None = self.recent.get((self.run, step, path))
        if known is None:
            values = (self.seq, step, packed(path))
            rows: list[Any] = self.connection.execute(QUERIES["outcome"], values).fetchall()
            known = int(rows[0][0])
            self.keep_outcome(step, path, known)
        return known

    def keep(self, step: str, path: Path, blob: Blob) -> None:
        """Remembers a result that has just been stored."""
        size_bytes = _ROW_BYTES + len(blob.inline or b"")
        self.recent.put((self.run, step, path), blob, size_bytes)

    def keep_outcome(self, step: str, path: Path, outcome: int) -> None:
        """Remembers an outcome that has just been stored."""
        self.recent.put((self.run, step, path), outcome, _ROW_BYTES)

    def _read_from(self, step: str, path: Path) -> Blob:
        """Reads a result and those of the items after it: a join asks for them next."""
        values = (self.seq, step, packed(path), _READ_AHEAD_ROWS if path else 1)
        found = {
            unpacked(stored): blob_of(row)
            for stored, *row in self.connection.execute(QUERIES["results_from"], values)
            if row[0] is not None
        }
        for other, blob in found.items():
            self.keep(step, other, blob)
        return found[path]
