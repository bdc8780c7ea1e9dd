"""Which workflows are deployed, which revision of each serves, and what starts them.

As with functions (`dsfn.runtime.registry`), everything is in SQLite and mirrored in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path

import apsw

from dsfn.billing.sqlite import load_queries, storage_errors, transaction
from dsfn.functions.errors import Conflict, NotFound
from dsfn.functions.interface import FilterInterface
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import Dag
from dsfn.functions.workflow.document import digest_of, from_document, to_document
from dsfn.runtime.clock import Clock
from dsfn.runtime.registry import Subscription
from dsfn.runtime.registry.rows import (
    Row,
    new_subscription,
    subscription_of,
    subscription_row,
)
from dsfn.runtime.workflows.model import WorkflowRevision

_SHORT = 10
_PRUNED = 1000
_QUERIES = load_queries("dsfn.runtime.workflows", "sql/registry.sql")


@dataclass(frozen=True, slots=True)
class WorkflowRecord:
    """A deployed workflow: the revision that serves, and all of them, newest first."""

    name: str
    created_at_us: int
    current: WorkflowRevision
    history: tuple[WorkflowRevision, ...]


def workflow_revision_id(dag: Dag) -> str:
    """The workflow's name and the first ten hex digits of its digest."""
    return f"{dag.name}-{digest_of(dag)[:_SHORT]}"


class WorkflowRegistry:
    """The workflows of a node. One thread uses it, with the connection it is given.

    `in_use` tells which revisions runs refer to: these outlive their workflow. Every change
    raises `StorageFull`, and changes nothing, when the disk has no room.
    """

    def __init__(self, connection: apsw.Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._records: dict[str, WorkflowRecord] = {}
        self._revisions: dict[str, WorkflowRevision] = {}
        self._subscriptions: tuple[Subscription, ...] = ()
        self.in_use: Callable[[], Collection[str]] = frozenset
        with storage_errors(Path(connection.filename)):
            connection.execute(_QUERIES["schema"])
        self.read_back(*(str(name) for (name,) in self._run("select_names")))

    def find(self, name: str) -> WorkflowRevision:
        """The revision of a workflow that serves. Raises `NotFound`."""
        return self.record(name).current

    def has(self, name: str) -> bool:
        """Whether a workflow of this name is deployed."""
        return name in self._records

    def knows(self, revision: str) -> bool:
        """Whether this revision of a deployed workflow is there."""
        return revision in self._revisions

    def record(self, name: str) -> WorkflowRecord:
        """All about a workflow. Raises `NotFound`."""
        found = self._records.get(name)
        if found is None:
            raise NotFound(f"There is no workflow {name!r}.", kind="workflow", name=name)
        return found

    def revision(self, revision: str) -> WorkflowRevision:
        """A revision by its id, of a deleted workflow too while runs refer to it.

        Raises `NotFound`.
        """
        known = self._revisions.get(revision)
        if known is not None:
            return known
        for row in self._run("select_revision", id=revision):
            return _revision_of(row)
        raise NotFound(f"There is no revision {revision!r}.", kind="revision", name=revision)

    def history(self, name: str) -> tuple[WorkflowRevision, ...]:
        """A workflow's revisions, newest first. Raises `NotFound`."""
        return self.record(name).history

    def all(self) -> tuple[WorkflowRevision, ...]:
        """The serving revision of every workflow, by name."""
        return tuple(self._records[name].current for name in sorted(self._records))

    def new_revision(self, dag: Dag) -> WorkflowRevision:
        """The revision that a workflow is, not registered; the same workflow is the same one."""
        id_ = workflow_revision_id(dag)
        known = self._revisions.get(id_)
        return known or WorkflowRevision(id_, dag.name, dag, self._clock.now_us())

    def register(self, *revisions: WorkflowRevision) -> None:
        """Has each revision serve its workflow, as one change."""
        with transaction(self._connection):
            self.write(*revisions)
        self.read_back(*(r.workflow for r in revisions))

    def write(self, *revisions: WorkflowRevision) -> None:
        """Does the same inside the caller's transaction, after which it is to be read back."""
        for revision in revisions:
            name = revision.workflow
            self._run(
                "insert_revision",
                id=revision.id,
                workflow=name,
                document=json.dumps(to_document(revision.dag), separators=(",", ":")),
                created_at_us=revision.created_at_us,
            )
            self._run("serve", name=name, revision=revision.id, now_us=self._clock.now_us())
            self._run("delete_decorator_subscriptions", workflow=name)
            for trigger in revision.dag.triggers:
                subscription = new_subscription(name, trigger, "decorator", "workflow")
                self._run("insert_subscription", **subscription_row(subscription))

    def delete(self, name: str) -> None:
        """Forgets a workflow and its subscriptions, and its revisions once no run refers to
        them. Raises `NotFound`."""
        self.record(name)
        with transaction(self._connection):
            self._run("delete_workflow", name=name)
            self._run("mark_deleted", workflow=name)
        self.read_back(name)

    def prune(self) -> int:
        """Drops some revisions of deleted workflows that no run refers to; gives their number."""
        deleted = [str(id_) for (id_,) in self._run("select_deleted")]
        if not deleted:
            return 0
        in_use = self.in_use()
        gone = [id_ for id_ in deleted if id_ not in in_use][:_PRUNED]
        if gone:
            with transaction(self._connection):
                for id_ in gone:
                    self._run("delete_revision", id=id_)
        return len(gone)

    def subscribe(self, workflow: str, filter_: FilterInterface) -> Subscription:
        """Has events that match start a run; the same again is the same subscription.

        Raises `NotFound`.
        """
        self.record(workflow)
        subscription = new_subscription(workflow, filter_, "user", "workflow")
        with transaction(self._connection):
            self._run("insert_subscription", **subscription_row(subscription))
        self.read_back()
        return subscription

    def unsubscribe(self, subscription: str) -> None:
        """Takes a subscription back.

        Raises `NotFound`, and `Conflict` for one that the workflow's own source declares.
        """
        found = next((s for s in self._subscriptions if s.id == subscription), None)
        if found is None:
            raise NotFound(
                f"There is no subscription {subscription!r}.",
                kind="subscription",
                name=subscription,
            )
        if found.origin == "decorator":
            raise Conflict(
                f"Subscription {found.id} is declared in the source of {found.function};"
                " take it out there and deploy again.",
                workflow=found.function,
            )
        with transaction(self._connection):
            self._run("delete_subscription", id=subscription)
        self.read_back()

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Every subscription, by workflow and age."""
        return self._subscriptions

    def read_back(self, *names: str) -> None:
        """Makes the mirror of these workflows what the database says."""
        for name in names:
            if (old := self._records.pop(name, None)) is not None:
                for revision in old.history:
                    del self._revisions[revision.id]
            for serving, created_at_us in self._run("select_workflow", name=name):
                history = tuple(map(_revision_of, self._run("select_revisions", workflow=name)))
                current = next(r for r in history if r.id == serving)
                self._records[name] = WorkflowRecord(name, created_at_us, current, history)
                self._revisions.update((r.id, r) for r in history)
        rows = self._run("select_subscriptions")
        self._subscriptions = tuple(subscription_of(row, "workflow") for row in rows)

    def _run(self, query: str, **bindings: object) -> list[Row]:
        return list(self._connection.execute(_QUERIES[query], bindings))


def _revision_of(row: Row) -> WorkflowRevision:
    return WorkflowRevision(row[0], row[1], from_document(json.loads(row[2])), row[3])
