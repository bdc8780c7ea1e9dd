"""The router: an event is stored with a delivery for each that subscribed to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import apsw

from dsfn.billing.sqlite import load_queries, transaction
from dsfn.functions.errors import Conflict, DsfnError, PayloadTooLarge
from dsfn.functions.event import Event, Filter
from dsfn.functions.interface import EVENT_CONTENT_TYPE, JSON_CONTENT_TYPE, FilterInterface
from dsfn.functions.values import dataclass
from dsfn.runtime.blobs import BlobStore, digest_of
from dsfn.runtime.clock import Clock
from dsfn.runtime.events.delivery import DeliveryKind, NewDelivery
from dsfn.runtime.events.queue import Queue
from dsfn.runtime.events.results import event_body, event_key, taken_for_loop
from dsfn.runtime.events.sameness import same_digest
from dsfn.runtime.events.stored import (
    INLINE_BYTES,
    StoredBody,
    by_reference,
    store_body,
)
from dsfn.runtime.model import Payer
from dsfn.runtime.registry import Subscription, TargetKind

# As long as first answers are kept: two months, of which the later may still be open.
KEEP_EVENTS_S = 62 * 24 * 3600
_MAX_CALLER_CHARS = 256
_PRUNE_ROWS = 1000
_QUERIES = load_queries("dsfn.runtime.events", "sql/router.sql")


@dataclass(frozen=True, slots=True)
class Target:
    """A function or workflow that an event goes to."""

    kind: TargetKind
    name: str


@dataclass(frozen=True, slots=True)
class Routed:
    """An event with what it goes to, ready to be stored.

    `body` is the event in structured mode, with large data by reference; neither is kept when
    nobody subscribed. `payer`: on whose account what follows from it is.
    """

    payer: Payer
    event: Event
    targets: tuple[Target, ...]
    digest: bytes
    body: StoredBody


class Router:
    """Matches events with subscriptions. Belongs to the event loop's thread."""

    def __init__(
        self,
        connection: apsw.Connection,
        queue: Queue,
        blobs: BlobStore,
        clock: Clock,
        subscriptions: Callable[[], Sequence[Subscription]],
        new_id: Callable[[int], str],
        tenant: str,
        max_body_bytes: int,
        note_owner: Callable[[str, str], None],
    ) -> None:
        """`new_id` makes an invocation id from the time in microseconds. `tenant`: on whose account
        events are for which nobody says so. `note_owner` is told of a tenant and the digest of a
        blob that holds data of its event."""
        self._connection = connection
        self._queue = queue
        self._blobs = blobs
        self._clock = clock
        self._subscriptions = subscriptions
        self._new_id = new_id
        self._payer = Payer(tenant)
        self._max_body_bytes = max_body_bytes
        self._note_owner = note_owner
        # Which types of events the subscriptions at a time may match.
        self._expecting: Sequence[Subscription] = ()
        self._expected: dict[str, bool] = {}
        with transaction(connection):
            connection.execute(_QUERIES["schema"])
            self._take_over_old_events()

    async def accept(self, events: Sequence[Event], payer: Payer | None = None) -> int:
        """Stores events that came from outside, all or none, and gives the number of deliveries.

        An event that was accepted before from the same tenant makes none. When this returns, the
        deliveries survive `kill -9`. Raises `Conflict` when an event has the source and id
        of an earlier one and says something else, `Unavailable` when the queue is
        full, `PayloadTooLarge`, `InvalidInput`, `StorageFull`.
        """
        routed = [await self.prepare(event, payer) for event in events]
        with transaction(self._connection):
            self._queue.require_room(sum(len(one.targets) for one in routed))
            return sum(self._store_first(one) for one in routed)

    async def give_up(self, event: Event, function: str, error: DsfnError) -> None:
        """Keeps an event that others could not deliver to a function as a dead letter, once.

        Raises `PayloadTooLarge`, `InvalidInput`, `StorageFull`, `StoreUnavailable`.
        """
        target = Target("function", function)
        routed = await self.prepare(event, targets=(target,))
        with transaction(self._connection):
            self._deliver(routed, target, self._clock.now_us(), error)

    def subscribers(self, event: Event) -> tuple[Target, ...]:
        """The functions and workflows that subscribed to an event, each once."""
        matching = (
            Target(one.kind, one.function)
            for one in self._subscriptions()
            if Filter.of(one.filter).matches(event)
        )
        return tuple(dict.fromkeys(matching))

    def expects(self, type_: str) -> bool:
        """Whether somebody subscribed to what may be an event of this type."""
        subscriptions = tuple(self._subscriptions())
        if subscriptions != self._expecting:
            self._expecting = subscriptions
            self._expected.clear()
        known = self._expected.get(type_)
        if known is None:
            known = any(_may_match(one.filter, type_) for one in subscriptions)
            self._expected[type_] = known
        return known

    def store_small(self, event: Event, payer: Payer | None = None) -> int:
        """Stores an event small enough for a row, and its deliveries, inside the caller's
        transaction; gives their number, 0 when its source and id are known."""
        targets = self.subscribers(event)
        body = event_body(event)
        digest = same_digest(EVENT_CONTENT_TYPE, body)
        return self.store(Routed(payer or self._payer, event, targets, digest, StoredBody(body)))

    async def prepare(
        self,
        event: Event,
        payer: Payer | None = None,
        targets: tuple[Target, ...] | None = None,
    ) -> Routed:
        """Finds an event's subscribers, where `targets` does not say who gets it, and keeps its
        body, so that `store` need not wait. Data that are too large for a row are kept beside it,
        and the event refers to them.

        Raises `PayloadTooLarge`, `InvalidInput`, `StorageFull`, `StoreUnavailable`.
        """
        payer = payer or self._payer
        targets = self.subscribers(event) if targets is None else targets
        told, body = await self._encode(event)
        digest = same_digest(EVENT_CONTENT_TYPE, body)
        stored = StoredBody(None)
        if targets:
            if told is not event:
                media = event.datacontenttype or JSON_CONTENT_TYPE
                ref = await self._blobs.save(event.data, media)
                self._note_owner(payer.tenant, digest_of(ref))
            stored = await store_body(self._blobs, body, EVENT_CONTENT_TYPE)
        return Routed(payer, told, targets, digest, stored)

    def store(self, routed: Routed) -> int:
        """Stores an event and its deliveries inside the caller's transaction; gives their number.

        0 when its source and id are known: of events with the same ones, the first is kept.
        """
        if self._known(routed) is not None:
            return 0
        now_us, event = self._clock.now_us(), routed.event
        self._connection.execute(
            _QUERIES["insert"],
            (routed.payer.tenant, event.source, event.id, routed.digest, now_us),
        )
        return sum(self._deliver(routed, target, now_us) for target in routed.targets)

    def prune(self) -> int:
        """Forgets some of the events that are older than they are kept; gives their number."""
        before_us = self._clock.now_us() - KEEP_EVENTS_S * 1_000_000
        with transaction(self._connection) as connection:
            connection.execute(_QUERIES["prune"], (before_us, _PRUNE_ROWS))
            return connection.changes()

    def _deliver(
        self, routed: Routed, target: Target, now_us: int, given_up: DsfnError | None = None
    ) -> bool:
        event = routed.event
        delivery = NewDelivery(
            id=self._new_id(now_us),
            kind=DeliveryKind.EVENT if target.kind == "function" else DeliveryKind.RUN,
            function=target.name,
            revision=None,
            payer=routed.payer,
            caller=event.source[:_MAX_CALLER_CHARS],
            idempotency_key=event_key(event, target.name),
            content_type=EVENT_CONTENT_TYPE,
            accept="*/*",
            digest=routed.digest,
            body=routed.body,
        )
        is_new = self._queue.insert(delivery)
        if is_new and given_up is not None:
            # Attempts elsewhere had the event's own key, and so has the first one here: whoever
            # succeeds, one success is on the books.
            self._queue.bury(delivery.id, given_up, attempts=0)
        elif is_new and (reason := taken_for_loop(event)) is not None:
            self._queue.bury(delivery.id, reason, attempts=0)
        return is_new

    def _known(self, routed: Routed) -> bytes | None:
        key = (routed.payer.tenant, routed.event.source, routed.event.id)
        row = self._connection.execute(_QUERIES["digest"], key).fetchone()
        return None if row is None else bytes(row[0])

    def _store_first(self, routed: Routed) -> int:
        known = self._known(routed)
        if known is not None and known != routed.digest:
            raise Conflict(
                f"Another event {routed.event.id!r} of {routed.event.source!r} came before.",
                field="id",
                source=routed.event.source,
                id=routed.event.id,
            )
        return self.store(routed)

    def _take_over_old_events(self) -> None:
        """Moves what an older node kept, when there was one tenant, into the table of today."""
        if self._connection.execute(_QUERIES["old_table"]).fetchone() is not None:
            self._connection.execute(_QUERIES["take_over"], (self._payer.tenant,))
            self._connection.execute(_QUERIES["drop_old_table"])

    async def _encode(self, event: Event) -> tuple[Event, bytes]:
        """The event as it is told, its data by reference if they are large, and its bytes."""
        if len(event.data) <= INLINE_BYTES:
            told, body = event, event_body(event)
        else:
            told = await asyncio.to_thread(by_reference, event)
            body = await asyncio.to_thread(event_body, told)
        if max(len(event.data), len(body)) > self._max_body_bytes:
            raise PayloadTooLarge(
                f"The event {event.id!r} is larger than {self._max_body_bytes} bytes.",
                limit_bytes=self._max_body_bytes,
            )
        return told, body


def _may_match(filter_: FilterInterface, type_: str) -> bool:
    return (
        filter_.exact.get("type", type_) == type_
        and type_.startswith(filter_.prefix.get("type", ""))
        and type_.endswith(filter_.suffix.get("type", ""))
    )
