"""Runs on a schedule: each time of a workflow's cron expression starts one, and only one."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import field, replace

import apsw

from dsfn.billing.sqlite import load_queries, transaction
from dsfn.functions.errors import DsfnError, RequestError, StorageFull, Unavailable
from dsfn.functions.event import Event
from dsfn.functions.values import dataclass
from dsfn.runtime.clock import Clock, rfc3339
from dsfn.runtime.events.results import refused_event
from dsfn.runtime.events.router import Router
from dsfn.runtime.workflows.cron import latest_us, next_us
from dsfn.runtime.workflows.engine import Engine
from dsfn.runtime.workflows.registry import WorkflowRegistry
from dsfn.runtime.workflows.starter import Starter

POLL_S = 1.0
DUE_TYPE = "dev.dsfn.schedule.due"
_QUERIES = load_queries("dsfn.runtime.workflows", "sql/schedules.sql")
_LOG = logging.getLogger("dsfn.workflows")


@dataclass(frozen=True, slots=True)
class _Schedule:
    """`after_us`: the last time that was dealt with; `next_us`: the one that comes next."""

    expression: str
    after_us: int
    next_us: int


@dataclass(eq=False)
class Schedules:
    """Starts runs when their time has come.

    The run of a time has that time as its key, and is stored before the time counts as dealt
    with: a node that was killed in between starts the same run, which is there already. Times
    that pass while the node is down, or cannot take a run on, are made up for by one run.
    """

    connection: apsw.Connection
    workflows: WorkflowRegistry
    starter: Starter
    engine: Engine
    router: Router
    clock: Clock
    tenant: str
    _known: dict[str, _Schedule] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        with transaction(self.connection) as connection:
            connection.execute(_QUERIES["schema"])
        for workflow, expression, after_us in self.connection.execute(_QUERIES["select"]):
            self._known[workflow] = _Schedule(expression, after_us, next_us(expression, after_us))

    def start(self) -> None:
        """Begins to look at the time."""
        self._task = asyncio.create_task(self._run(), name="schedules")

    async def close(self) -> None:
        """Starts nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def fire_due(self) -> int:
        """Starts the runs whose time has come; gives their number."""
        self._agree()
        now_us = self.clock.now_us()
        due = sorted(name for name, known in self._known.items() if known.next_us <= now_us)
        return sum([await self._fire(name, now_us) for name in due])

    async def _run(self) -> None:
        while True:
            try:
                await self.fire_due()
            except (StorageFull, apsw.Error) as error:
                _LOG.warning("The schedules cannot be written now: %s", error)
            except Exception:  # noqa: BLE001
                # A fault of the node's own must not end all schedules.
                _LOG.exception("The schedules were not looked at.")
            await asyncio.sleep(POLL_S)

    def _agree(self) -> None:
        """Makes the schedules those of the workflows that are deployed; a new one begins now."""
        wanted = {
            revision.workflow: revision.dag.options.schedule
            for revision in self.workflows.all()
            if revision.dag.options.schedule is not None
        }
        for name in self._known.keys() - wanted.keys():
            with transaction(self.connection) as connection:
                connection.execute(_QUERIES["delete"], {"workflow": name})
            del self._known[name]
        now_us = self.clock.now_us()
        for name, expression in wanted.items():
            known = self._known.get(name)
            if known is None or known.expression != expression:
                self._keep(name, _Schedule(expression, now_us, next_us(expression, now_us)))

    async def _fire(self, name: str, now_us: int) -> bool:
        """Starts the run of the last time that has come; whether it did."""
        known = self._known[name]
        due_us = latest_us(known.expression, now_us)
        key = f"cron:{name}:{rfc3339(due_us)}"
        started = False
        try:
            await self.engine.start(await self.starter.scheduled(name, key, tenant=self.tenant))
            started = True
        except RequestError as error:
            await self._refused(name, key, error)
        except DsfnError as error:
            # Its time stays due; it is tried again the next time round.
            _LOG.warning("The scheduled run %s has to wait: %s", key, error.message)
            return False
        after = next_us(known.expression, due_us)
        self._keep(name, replace(known, after_us=due_us, next_us=after))
        return started

    async def _refused(self, name: str, key: str, error: RequestError) -> None:
        """Tells whoever wants to know that the time of a workflow came to nothing."""
        _LOG.error("The scheduled run %s cannot be started: %s", key, error.message)
        time = rfc3339(self.clock.now_us())
        source = f"/workflows/{name}"
        cause = Event(id=key, source=source, type=DUE_TYPE, time=time)
        try:
            await self.router.accept([refused_event(name, key, error, cause, time)])
        except (RequestError, Unavailable) as reason:
            _LOG.warning("The failure of %s is not published: %s", key, reason.message)

    def _keep(self, name: str, schedule: _Schedule) -> None:
        with transaction(self.connection) as connection:
            connection.execute(
                _QUERIES["put"],
                {
                    "workflow": name,
                    "expression": schedule.expression,
                    "after_us": schedule.after_us,
                },
            )
        self._known[name] = schedule
