"""Dead letters: events that could not be delivered, and their second chance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import apsw

from dsfn.billing.sqlite import load_queries, transaction
from dsfn.functions.errors import NotFound
from dsfn.functions.event import Event
from dsfn.functions.values import dataclass
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.clock import Clock
from dsfn.runtime.events.queue import Queue
from dsfn.runtime.events.results import event_of_body
from dsfn.runtime.events.stored import StoredBody, load_body

_NEWEST = 2**63 - 1
_QUERIES = load_queries("dsfn.runtime.events", "sql/dead.sql")

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that `name`, a function or workflow, did not take. `error`: the last one's
    document; `seq`: its place among all."""

    seq: int
    id: str
    tenant: str
    name: str
    revision: str | None
    attempts: int
    created_at_us: int
    died_at_us: int
    error: Mapping[str, Any]


class DeadLetters:
    """The deliveries that were given up. Belongs to the event loop's thread, as the queue does."""

    def __init__(
        self, connection: apsw.Connection, queue: Queue, blobs: BlobStore, clock: Clock
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._blobs = blobs
        self._clock = clock

    def list(
        self, limit: int, before: int = _NEWEST, tenant: str | None = None
    ) -> list[DeadLetter]:
        """Those that came last first, of those before a place; of all tenants or of one."""
        rows = self._connection.execute(_QUERIES["list"], (before, tenant, limit))
        return [_letter(row) for row in rows]

    def get(self, id: str) -> DeadLetter:
        """Raises `NotFound`."""
        return _letter(self._row(id))

    async def event(self, id: str) -> Event:
        """The event itself. Raises `NotFound`."""
        row = self._row(id)
        return event_of_body(await load_body(self._blobs, StoredBody(row[9], row[10])))

    def replay(self, id: str) -> None:
        """Queues it again, with as many attempts as a new one. Raises `NotFound`, `Unavailable`
        when the queue is full."""
        now_us = self._clock.now_us()
        with transaction(self._connection) as connection:
            self._queue.require_room(1)
            connection.execute(_QUERIES["remember"], (id, now_us))
            connection.execute(_QUERIES["replay"], (id, now_us))
            if not connection.changes():
                raise no_such_letter(id)
        self._queue.arrived.set()

    def _row(self, id: str) -> Row:
        row: Row | None = self._connection.execute(_QUERIES["get"], (id,)).fetchone()
        if row is None:
            raise no_such_letter(id)
        return row


def _letter(row: Row) -> DeadLetter:
    return DeadLetter(
        seq=row[0],
        id=row[1],
        tenant=row[2],
        name=row[3],
        revision=row[4],
        attempts=row[5],
        created_at_us=row[6],
        died_at_us=row[7],
        error=json.loads(row[8]),
    )


def no_such_letter(id: str) -> NotFound:
    """The error for an id that no dead letter has."""
    return NotFound(f"There is no dead letter {id!r}.", kind="dead letter", name=id)
