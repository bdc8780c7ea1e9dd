"""Which functions there are, which revision serves each, and what calls them.

Everything is in SQLite and mirrored in memory: a call reads memory only, a change
is one transaction, after which the mirror of the function is read back from it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import apsw

from dsfn.billing.sqlite import load_queries, storage_errors, transaction
from dsfn.functions.errors import Conflict, InvalidInput, NotFound
from dsfn.functions.interface import FilterInterface
from dsfn.runtime.clock import Clock
from dsfn.runtime.model import Revision
from dsfn.runtime.registry.entry import Entry, entry_of
from dsfn.runtime.registry.rows import (
    Row,
    new_subscription,
    revision_of,
    revision_row,
    snapshot_text,
    subscription_of,
    subscription_row,
)
from dsfn.runtime.registry.values import FunctionRecord, HistoryEntry, Subscription

_ALL = 100


class Registry:
    """The functions of a node. One thread uses it, with the connection it is given.

    `pick(n)` chooses from 0 to n - 1: how a call finds its revision when several serve.
    `pinned` tells which revisions running workflows keep to: these outlive their function.
    Every change raises `StorageFull`, and changes nothing, when the disk has no room.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        clock: Clock,
        pick: Callable[[int], int] = random.randrange,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._pick = pick
        self._queries = load_queries("dsfn.runtime.registry", "sql/registry.sql")
        self._entries: dict[str, Entry] = {}
        self._revisions: dict[str, Revision] = {}
        self._serving: frozenset[str] = frozenset()
        self._subscriptions: tuple[Subscription, ...] = ()
        self._retained: dict[str, Revision] = {}
        self.pinned: Callable[[], Collection[str]] = frozenset
        with storage_errors(Path(connection.filename)):
            connection.execute(self._queries["schema"])
        self._read_back(*(str(row[0]) for row in self._run("select_function_names")))

    def route(self, function: str) -> Revision:
        """The revision that serves the next call, in proportion to traffic. Raises `NotFound`."""
        shares = self._entry(function).hundredths
        return shares[0] if len(shares) == 1 else shares[self._pick(len(shares))]

    def revision(self, revision: str) -> Revision:
        """A revision by its id. Raises `NotFound`."""
        found = self.find(revision)
        if found is None:
            raise _no_revision(revision)
        return found

    def find(self, revision: str) -> Revision | None:
        """A revision by its id, or None."""
        return self._revisions.get(revision) or self._retained.get(revision)

    def function(self, name: str) -> FunctionRecord:
        """A function by its name. Raises `NotFound`."""
        return self._entry(name).record

    def has(self, name: str) -> bool:
        """Whether a function of this name is deployed."""
        return name in self._entries

    def functions(self) -> tuple[FunctionRecord, ...]:
        """Every function, by name."""
        return tuple(self._entries[name].record for name in sorted(self._entries))

    def serving(self) -> frozenset[str]:
        """The ids of the revisions that have traffic."""
        return self._serving

    def history(self, name: str) -> tuple[HistoryEntry, ...]:
        """A function's revisions, newest first. Raises `NotFound`."""
        entry = self._entry(name)
        return tuple(HistoryEntry(r, entry.record.traffic.get(r.id, 0)) for r in entry.history)

    def retained(self) -> tuple[Revision, ...]:
        """The revisions of deleted functions that are kept for those who are pinned to them."""
        return tuple(self._retained.values())

    def register(
        self,
        *revisions: Revision,
        beside: Callable[[], None] | None = None,
        percent: int = _ALL,
    ) -> None:
        """Gives each revision all traffic of its function and its own triggers, as one change.

        With a smaller `percent` it gets so much, and the current one the rest and the triggers, as
        before; all the same where there is no other. `beside` writes what becomes live in the same
        transaction.
        """
        with transaction(self._connection):
            if beside is not None:
                beside()
            for revision in revisions:
                self._run(
                    "insert_function",
                    name=revision.function,
                    created_at_us=self._clock.now_us(),
                )
                self._run("insert_revision", **revision_row(revision))
                self._run("release", id=revision.id)
                before = self._entries.get(revision.function)
                if percent == _ALL or before is None or before.record.current.id == revision.id:
                    self._serve(revision)
                else:
                    rest = before.record.current
                    self._share_out({revision.id: percent, rest.id: _ALL - percent}, revision, rest)
        self._read_back(*(r.function for r in revisions))

    def quarantine(self, revision: str, reason: str) -> None:
        """Keeps replicas from a revision's snapshot, until it is made anew. Raises `NotFound`."""
        found = self.revision(revision)
        if found.snapshot is None:
            return
        shut = snapshot_text(replace(found.snapshot, quarantined=True))
        with transaction(self._connection):
            self._run("update_snapshot", id=revision, snapshot=shut, reason=reason)
            self._run("update_retained_snapshot", id=revision, snapshot=shut, reason=reason)
        self._read_back(found.function)

    def reinstate(self, digest: str) -> list[str]:
        """Has replicas start from a snapshot again that is sound after all: the ids of those whose
        quarantine this ends."""
        known = {**self._revisions, **self._retained}.values()
        shut = [r for r in known if (s := r.snapshot) and s.digest == digest and s.quarantined]
        with transaction(self._connection):
            for each in shut:
                assert each.snapshot is not None
                text = snapshot_text(replace(each.snapshot, quarantined=False))
                for query in ("update_snapshot", "update_retained_snapshot"):
                    self._run(query, id=each.id, snapshot=text, reason=None)
        self._read_back(*{each.function for each in shut})
        return sorted(each.id for each in shut)

    def rollback(self, name: str, revision: str | None = None) -> Revision:
        """Gives all traffic to `revision`, or undoes the newest change of the serving revision.

        Rolling back again goes back further. Raises `NotFound`, and `Conflict` when
        no revision served before.
        """
        if revision is not None:
            target = self._own(name, revision)
            with transaction(self._connection):
                self._serve(target)
            self._read_back(name)
            return target
        self.function(name)
        served = self._run("select_served", function=name)
        if len(served) < 2:
            raise Conflict(f"No revision of {name} served before this one.", function=name)
        (newest, _), (_, before) = served
        with transaction(self._connection):
            self._run("delete_served", number=newest)
            self._serve(self._own(name, before))
        self._read_back(name)
        return self.revision(before)

    def set_traffic(
        self,
        name: str,
        percents: Mapping[str, int],
        beside: Callable[[], None] | None = None,
    ) -> Mapping[str, int]:
        """Splits the calls of a function between revisions; the shares that were set.

        `beside` writes more in the same transaction. Raises `NotFound` for an unknown revision,
        `InvalidInput` when the shares are not whole percents that sum to 100.
        """
        self.function(name)
        targets = [self._own(name, revision) for revision, share in percents.items() if share]
        whole = all(type(share) is int and share >= 0 for share in percents.values())
        if not whole or sum(percents.values()) != _ALL:
            raise InvalidInput(
                "The traffic of a function is whole percents that sum to 100.", field="traffic"
            )
        with transaction(self._connection):
            if beside is not None:
                beside()
            if len(targets) == 1:
                self._serve(targets[0])
            else:
                self._share_out(percents, *targets)
        self._read_back(name)
        return self.function(name).traffic

    def delete(self, name: str) -> None:
        """Forgets a function, its revisions and its subscriptions; what is pinned of its
        revisions can still be called by id. Raises `NotFound`."""
        pinned = self.pinned()
        kept = [revision for revision in self._entry(name).history if revision.id in pinned]
        with transaction(self._connection):
            for revision in kept:
                self._run("retain", id=revision.id)
            self._run("delete_function", function=name)
        self._read_back(name)

    def release(self) -> int:
        """Forgets the revisions of deleted functions that nobody is pinned to any more; gives
        their number."""
        if not self._retained:
            return 0
        pinned = self.pinned()
        gone = [id_ for id_ in self._retained if id_ not in pinned]
        if gone:
            with transaction(self._connection):
                for id_ in gone:
                    self._run("release", id=id_)
            self._read_back()
        return len(gone)

    def subscribe(self, function: str, filter_: FilterInterface) -> Subscription:
        """Has events that match call a function; the same again is the same subscription.

        Raises `NotFound`.
        """
        self.function(function)
        subscription = new_subscription(function, filter_, "user")
        with transaction(self._connection):
            self._run("insert_subscription", **subscription_row(subscription))
        self._read_back(function)
        return subscription

    def unsubscribe(self, subscription: str) -> None:
        """Takes a subscription back.

        Raises `NotFound`, and `Conflict` for one that the function's own source declares.
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
                f"Subscription {found.id} is declared by @on in the source of {found.function};"
                " take it out there and deploy again.",
                function=found.function,
            )
        with transaction(self._connection):
            self._run("delete_subscription", id=subscription)
        self._read_back(found.function)

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Every subscription, by function and age."""
        return self._subscriptions

    def _entry(self, name: str) -> Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise NotFound(f"There is no function {name!r}.", kind="function", name=name)
        return entry

    def _own(self, name: str, revision: str) -> Revision:
        found = next((r for r in self._entry(name).history if r.id == revision), None)
        if found is None:
            raise _no_revision(revision)
        return found

    def _serve(self, revision: Revision) -> None:
        """Writes that one revision takes all calls and that its triggers are the function's."""
        name = revision.function
        self._run("delete_traffic", function=name)
        self._share(revision, _ALL)
        served = self._run("select_served", function=name)
        if not served or served[0][1] != revision.id:
            self._run("insert_served", function=name, revision=revision.id)
        self._run("delete_decorator_subscriptions", function=name)
        for trigger in revision.interface.triggers:
            row = subscription_row(new_subscription(name, trigger, "decorator"))
            self._run("insert_subscription", **row)

    def _share_out(self, percents: Mapping[str, int], *targets: Revision) -> None:
        self._run("delete_traffic", function=targets[0].function)
        for target in targets:
            self._share(target, percents[target.id])

    def _share(self, revision: Revision, percent: int) -> None:
        self._run(
            "insert_traffic", function=revision.function, revision=revision.id, percent=percent
        )

    def _run(self, query: str, **bindings: object) -> list[Row]:
        return list(self._connection.execute(self._queries[query], bindings))

    def _read_back(self, *names: str) -> None:
        """Makes the mirror of these functions what the database says."""
        for name in names:
            if (old := self._entries.pop(name, None)) is not None:
                for revision in old.history:
                    del self._revisions[revision.id]
            for (created_at_us,) in self._run("select_function", function=name):
                history = tuple(map(revision_of, self._run("select_revisions", function=name)))
                percents = {str(r): int(p) for r, p in self._run("select_traffic", function=name)}
                self._entries[name] = entry_of(name, created_at_us, history, percents)
                self._revisions.update((r.id, r) for r in history)
        self._serving = frozenset(r for e in self._entries.values() for r in e.record.traffic)
        self._subscriptions = tuple(map(subscription_of, self._run("select_subscriptions")))
        retained = map(revision_of, self._run("select_retained"))
        self._retained = {revision.id: revision for revision in retained}


def _no_revision(revision: str) -> NotFound:
    return NotFound(f"There is no revision {revision!r}.", kind="revision", name=revision)
