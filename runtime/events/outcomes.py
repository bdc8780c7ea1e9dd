"""What becomes of a delivery once its call has ended: each outcome is one transaction."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import apsw

from dsfn.billing.sqlite import transaction
from dsfn.functions.errors import DsfnError, RequestError
from dsfn.functions.event import Event
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.clock import Clock, rfc3339
from dsfn.runtime.events.delivery import (
    Delivery,
    DeliveryKind,
    RetryPolicy,
    Verdict,
    postponement_us,
    verdict,
)
from dsfn.runtime.events.queue import Queue
from dsfn.runtime.events.results import (
    completed_event,
    event_of_body,
    failed_event,
    refused_event,
    says_nothing,
)
from dsfn.runtime.events.router import Routed, Router
from dsfn.runtime.events.stored import load_body, store_body
from dsfn.runtime.model import Answer
from dsfn.runtime.registry import Registry

# Of an event that starts a run, and of one whose function is gone.
_USUAL = RetryPolicy()
_LOG = logging.getLogger("dsfn.events")


class Outcomes:
    """Writes outcomes, and with that of an event the event that follows from it."""

    def __init__(
        self,
        connection: apsw.Connection,
        queue: Queue,
        router: Router,
        blobs: BlobStore,
        clock: Clock,
        registry: Registry,
        random: Callable[[], float] = random.random,
    ) -> None:
        """`registry` has the functions, whose options say how often they are tried."""
        self._connection = connection
        self._queue = queue
        self._router = router
        self._blobs = blobs
        self._clock = clock
        self._registry = registry
        self._random = random

    async def succeeded(self, delivery: Delivery, answer: Answer) -> None:
        """Keeps the answer; for an event, its result goes on as an event in the same transaction.

        Raises what keeps that event from going on.
        """
        body = await store_body(self._blobs, answer.body, answer.content_type)
        follower = await self._follower(delivery, answer)
        with transaction(self._connection):
            self._queue.succeed(delivery.id, answer, body)
            if follower is not None:
                self._queue.require_room(len(follower.targets), internal=True)
                self._router.store(follower)

    async def failed(self, delivery: Delivery, error: DsfnError) -> None:
        """Queues the delivery again or gives it up, as its error has it."""
        policy = self._policy(delivery)
        match verdict(delivery, error, policy, self._clock.now_us()):
            case Verdict.POSTPONE:
                with transaction(self._connection):
                    self._queue.requeue(delivery.id, postponement_us(delivery, error), error)
            case Verdict.RETRY:
                failed = delivery.attempts - delivery.attempts_before + 1
                delay_us = policy.delay_us(failed, self._random)
                with transaction(self._connection):
                    self._queue.retry(delivery.id, delay_us, error)
            case Verdict.FINAL:
                await self._give_up(delivery, error)

    async def stuck(self, delivery: Delivery, error: RequestError) -> None:
        """Gives a delivery up whose answer can never go on."""
        await self._give_up(delivery, error, stuck_answers=1)

    def abandoned(self, delivery: Delivery) -> None:
        """Queues a delivery again whose call was called off."""
        with transaction(self._connection):
            self._queue.requeue(delivery.id, 0, None)

    def _policy(self, delivery: Delivery) -> RetryPolicy:
        """That of the function as it is now: who deploys it anew changes what waits, too."""
        if delivery.kind is DeliveryKind.RUN or not self._registry.has(delivery.function):
            return _USUAL
        current = self._registry.function(delivery.function).current
        return RetryPolicy.of(current.options)

    async def _give_up(self, delivery: Delivery, error: DsfnError, stuck_answers: int = 0) -> None:
        if delivery.kind is DeliveryKind.CALL:
            with transaction(self._connection):
                self._queue.fail(delivery.id, error)
            return
        follower = await self._complaint(delivery, error)
        with transaction(self._connection):
            self._queue.bury(delivery.id, error, 1, stuck_answers)
            if follower is not None:
                self._router.store(follower)

    async def _follower(self, delivery: Delivery, answer: Answer) -> Routed | None:
        # What follows from a run is told by the run itself, once it is over.
        if delivery.kind is not DeliveryKind.EVENT:
            return None
        if says_nothing(answer.content_type, answer.body):
            return None
        event = completed_event(
            delivery.function,
            delivery.id,
            answer.content_type,
            answer.body,
            await self._cause(delivery),
            rfc3339(self._clock.now_us()),
        )
        if not self._router.subscribers(event):
            return None
        return await self._router.prepare(event, delivery.payer)

    async def _complaint(self, delivery: Delivery, error: DsfnError) -> Routed | None:
        try:
            time = rfc3339(self._clock.now_us())
            cause = await self._cause(delivery)
            told = failed_event if delivery.kind is DeliveryKind.EVENT else refused_event
            event = told(delivery.function, delivery.id, error, cause, time)
            if not self._router.subscribers(event):
                return None
            return await self._router.prepare(event, delivery.payer)
        except RequestError as reason:
            # The delivery has failed anyway: that nobody can be told must not keep it alive.
            _LOG.warning("The failure of %s is not published: %s", delivery.id, reason.message)
            return None

    async def _cause(self, delivery: Delivery) -> Event:
        return event_of_body(await load_body(self._blobs, delivery.body))
