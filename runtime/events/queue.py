"""The durable queue: asynchronous calls and events on their way, in the node's database.

All methods belong to the event loop's thread, as the database's connection does.
Those that write take part in the caller's transaction when they say so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterator

import apsw

from dsfn.billing.sqlite import load_queries, transaction
from dsfn.functions.errors import DsfnError, IdempotencyMismatch, NotFound, Unavailable
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.clock import Clock
from dsfn.runtime.columns import add_column
from dsfn.runtime.events.delivery import (
    Delivery,
    DeliveryKind,
    DeliveryState,
    Invocation,
    NewDelivery,
)
from dsfn.runtime.events.sameness import same_digest
from dsfn.runtime.events.stored import (
    StoredBody,
    answer_document,
    error_text,
    load_body,
    read_answer,
    store_body,
)
from dsfn.runtime.model import Answer, Call, Payer, shown_key

MAX_QUEUED = 100_000
KEEP_RESULTS_S = 24 * 3600
KEEP_DEAD_S = 14 * 24 * 3600
_PRUNE_ROWS = 1000
_FULL_RETRY_AFTER_S = 5.0
_QUERIES = load_queries("dsfn.runtime.events", "sql/queue.sql")


class Queue:
    """Deliveries on disk, in order of arrival for each function."""

    def __init__(
        self,
        connection: apsw.Connection,
        blobs: BlobStore,
        clock: Clock,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self._connection = connection
        self._blobs = blobs
        self._clock = clock
        self._max_queued = max_queued
        # Set when something may be due; who waits for it clears it.
        self.arrived = asyncio.Event()
        with transaction(connection):
            connection.execute(_QUERIES["schema"])
            add_column(connection, "deliveries", "key_id", "TEXT NOT NULL DEFAULT ''")
            add_column(connection, "deliveries", "stuck_answers", "INTEGER NOT NULL DEFAULT 0")

    async def put(self, call: Call) -> str:
        """Stores an asynchronous call and gives its invocation id.

        A repeat of an idempotency key gives the first call's id. Raises
        `Unavailable` when the queue is full, `IdempotencyMismatch`, `StorageFull`.
        """
        delivery = NewDelivery(
            id=call.id,
            kind=DeliveryKind.CALL,
            function=call.function,
            revision=call.revision,
            payer=Payer(call.tenant, call.key_id),
            caller=call.caller,
            idempotency_key=call.idempotency_key or f"async:{call.id}",
            content_type=call.content_type,
            accept=call.accept,
            digest=same_digest(call.content_type, call.body),
            body=await store_body(self._blobs, call.body, call.content_type),
        )
        with transaction(self._connection):
            if (first := self._first(delivery)) is not None:
                return first
            self.require_room(1)
            self.insert(delivery)
        return delivery.id

    def insert(self, delivery: NewDelivery) -> bool:
        """Queues a delivery, inside the caller's transaction; False when its key is there."""
        now_us = self._clock.now_us()
        self._connection.execute(
            _QUERIES["insert"],
            (
                delivery.id,
                delivery.kind,
                delivery.function,
                delivery.revision,
                delivery.payer.tenant,
                delivery.payer.key_id,
                delivery.caller,
                delivery.idempotency_key,
                delivery.content_type,
                delivery.accept,
                delivery.digest,
                delivery.body.inline,
                delivery.body.ref,
                now_us,
                now_us,
            ),
        )
        self.arrived.set()
        return self._connection.changes() == 1

    def require_room(self, deliveries: int, internal: bool = False) -> None:
        """Raises `Unavailable` unless so many more fit.

        The node's own events may use as much again as callers may: a queue that
        callers keep full must still be able to shrink.
        """
        limit = self._max_queued * 2 if internal else self._max_queued
        if self._count(DeliveryState.QUEUED) + deliveries > limit:
            raise Unavailable(
                f"The queue holds {self._max_queued} deliveries, which is its limit.",
                retry_after_s=_FULL_RETRY_AFTER_S,
            )

    def due_functions(self) -> list[str]:
        """The functions for which something is due, in alphabetical order."""
        found = self._connection.execute(_QUERIES["due_functions"], (self._clock.now_us(),))
        return [name for (name,) in found]

    def claim(self, function: str) -> Delivery | None:
        """Hands out the function's next due delivery, which is running from then on."""
        with transaction(self._connection) as connection:
            row = connection.execute(_QUERIES["claim"], (function, self._clock.now_us())).fetchone()
        if row is None:
            return None
        return Delivery(
            id=row[0],
            kind=DeliveryKind(row[1]),
            function=row[2],
            revision=row[3],
            payer=Payer(row[4], row[5]),
            caller=row[6],
            idempotency_key=row[7],
            content_type=row[8],
            accept=row[9],
            body=StoredBody(row[10], row[11]),
            tries=row[12],
            attempts=row[13],
            queued_at_us=row[14],
            attempts_before=row[15],
            stuck_answers=row[16],
        )

    def requeue(self, id: str, after_us: int, error: DsfnError | None) -> None:
        """Gives a delivery back unserved, inside the caller's transaction."""
        not_before_us = self._clock.now_us() + after_us
        self._connection.execute(_QUERIES["requeue"], (id, not_before_us, error_text(error)))

    def retry(self, id: str, after_us: int, error: DsfnError) -> None:
        """Counts a failed attempt and queues the next, inside the caller's transaction."""
        not_before_us = self._clock.now_us() + after_us
        self._connection.execute(_QUERIES["retry"], (id, not_before_us, error_text(error)))

    def succeed(self, id: str, answer: Answer, body: StoredBody) -> None:
        """Keeps the answer of a delivery, inside the caller's transaction."""
        document = json.dumps(answer_document(answer))
        now_us = self._clock.now_us()
        self._connection.execute(_QUERIES["succeed"], (id, now_us, document, body.inline, body.ref))

    def fail(self, id: str, error: DsfnError) -> None:
        """Ends an asynchronous call in failure, inside the caller's transaction."""
        self._connection.execute(_QUERIES["fail"], (id, self._clock.now_us(), error_text(error)))

    def bury(self, id: str, error: DsfnError, attempts: int, stuck_answers: int = 0) -> None:
        """Gives an event's delivery up after `attempts` more, inside the caller's transaction.
        `stuck_answers`: how many of them had an answer that could not go on."""
        now_us = self._clock.now_us()
        self._connection.execute(
            _QUERIES["bury"], (id, now_us, error_text(error), attempts, stuck_answers)
        )

    def recover(self, running: Collection[str] = ()) -> int:
        """Queues again what is marked as running and is not in `running`; gives their number.

        They are left behind by a crash, or by an outcome that found the disk full.
        """
        with transaction(self._connection) as connection:
            marked = [id for (id,) in connection.execute(_QUERIES["running"])]
            lost = [id for id in marked if id not in running]
            for id in lost:
                self.requeue(id, 0, None)
        return len(lost)

    def get(self, id: str) -> Invocation:
        """What is known of an invocation. Raises `NotFound`."""
        row = self._connection.execute(_QUERIES["get"], (id,)).fetchone()
        if row is None:
            raise no_such_invocation(id)
        answer = json.loads(row[9]) if row[9] else None
        return Invocation(
            id=row[0],
            tenant=row[1],
            function=row[2],
            revision=answer["revision"] if answer else row[3],
            state=DeliveryState(row[4]),
            attempts=row[5],
            created_at_us=row[6],
            finished_at_us=row[7],
            error=json.loads(row[8]) if row[8] else None,
        )

    async def result(self, id: str) -> Answer:
        """The answer of an invocation that succeeded. Raises `NotFound`."""
        row = self._connection.execute(_QUERIES["result"], (id,)).fetchone()
        if row is None:
            raise no_such_invocation(id, "result")
        body = await load_body(self._blobs, StoredBody(row[1], row[2]))
        return read_answer(json.loads(row[0]), body)

    def queued_count(self) -> int:
        """How many deliveries wait."""
        return self._count(DeliveryState.QUEUED)

    def dead_count(self) -> int:
        """How many events could not be delivered and are still kept."""
        return self._count(DeliveryState.DEAD)

    def prune(self) -> int:
        """Drops some of what ended longer ago than it is kept; gives their number."""
        now_us = self._clock.now_us()
        with transaction(self._connection) as connection:
            connection.execute(
                _QUERIES["prune"],
                (now_us - KEEP_RESULTS_S * 10**6, now_us - KEEP_DEAD_S * 10**6, _PRUNE_ROWS),
            )
            return connection.changes()

    def _first(self, delivery: NewDelivery) -> str | None:
        key = (delivery.payer.tenant, delivery.function, delivery.idempotency_key)
        row = self._connection.execute(_QUERIES["by_key"], key).fetchone()
        if row is None:
            return None
        if row[1] != delivery.digest:
            shown = shown_key(delivery.idempotency_key)
            raise IdempotencyMismatch(
                f"The idempotency key {shown!r} came before with another body.", key=shown
            )
        return str(row[0])

    def _count(self, state: DeliveryState) -> int:
        row = self._connection.execute(_QUERIES["count"], (state,)).fetchone()
        return int(row[0]) if row else 0


def blobs_of_deliveries(connection: apsw.Connection) -> Iterator[str | bytes]:
    """What deliveries say of blobs, read on any connection to the node's database."""
    return (text for (text,) in connection.execute(_QUERIES["references"]))


def no_such_invocation(id: str, kind: str = "invocation") -> NotFound:
    """The error for an id that no invocation has."""
    return NotFound(f"There is no {kind} {id!r}.", kind=kind, name=id)
