"""Calls on replicas of this node: every branch between a call and its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from dsfn.billing.rates import RateCard
from dsfn.billing.usage import Status, Usage
from dsfn.functions.admission import check_call
from dsfn.functions.errors import (
    BudgetExceeded,
    CorruptBlob,
    DsfnError,
    OutputTooLarge,
    ReplicaLost,
    RequestError,
)
from dsfn.functions.values import dataclass
from dsfn.runtime.blobs import BlobStore, references_in
from dsfn.runtime.charges import charge_of
from dsfn.runtime.clock import Clock
from dsfn.runtime.config import Limits
from dsfn.runtime.counts import Counts
from dsfn.runtime.failures import cause_of_failure, status_of_failure
from dsfn.runtime.invoke import Post, Purse
from dsfn.runtime.leases.lease import Held, Subject
from dsfn.runtime.metering import UsageSink
from dsfn.runtime.model import Answer, Call, Charge, Origin, Phases, Revision
from dsfn.runtime.replicas.channel import Reply
from dsfn.runtime.replicas.pool import Lease
from dsfn.runtime.replicas.pools import Pools
from dsfn.runtime.replicas.replica import NotBegun
from dsfn.runtime.timelines import Timelines

# Replicas that are tried for a call when one after the other has gone before it read it.
ATTEMPTS = 3
_NO_ORIGIN = Origin("", "", "")


@dataclass(frozen=True, slots=True)
class PoolCaller:
    """`Caller` of this node's pools."""

    pools: Pools
    blobs: BlobStore
    usage: UsageSink
    purse: Purse
    in_force: Callable[[], RateCard]
    metrics: Counts
    timelines: Timelines
    clock: Clock
    limits: Limits

    async def call(
        self, call: Call, revision: Revision, post: Post, whole: bool = False
    ) -> tuple[Answer, Usage]:
        """See `Caller`."""
        await self._refuse_unfit(call, revision, post)
        try:
            call = self.purse.reserve(call, revision)
            await self.usage.reserve(partial(self._begun, call, revision))
            # Workers read blobs from the node's folder, which need not have what was put long ago.
            await self.blobs.ensure(references_in(call.content_type, call.body))
        except DsfnError as error:
            self._refused(call, error)
            raise
        lease, limit_us, reply, stream = await self._run(call, revision, whole, post)
        if stream is not None:
            held, restore_us = lease.slot.so_far(), lease.slot.restore_us
            usage = self._usage(call, lease.slot.lease.subject, held, 0, restore_us)
            charges: list[Charge] = []
            answer = replace(
                self._answer(lease, reply, usage),
                stream=self._metered(stream, call, lease, charges, limit_us, post),
                settled=lambda: charges[0].to_document(),
            )
            return answer, usage
        usage = self._settled(call, lease, reply.busy_us)
        answer = self._answer(lease, reply, usage)
        self._answered(call, answer)
        return answer, usage

    def _begun(self, call: Call, revision: Revision) -> Usage:
        """The row of a call that has held nothing yet, and whose platform has let it down."""
        nowhere, held = self.pools.nowhere(revision), Held(self.clock.now_us(), 0)
        return self._usage(call, nowhere, held, 0, 0, "platform", ReplicaLost.__name__)

    async def _refuse_unfit(self, call: Call, revision: Revision, post: Post) -> None:
        """Refuses a call that the function could not take, before a replica is brought back or
        started for it. Its row is as if a replica had refused it."""
        try:
            interface, limit_bytes = revision.interface, self.limits.max_body_bytes
            check_call(interface, call.content_type, call.accept, len(call.body), limit_bytes)
        except RequestError as error:
            nowhere = self.pools.nowhere(revision)
            usage = self._usage(
                call, nowhere, Held(self.clock.now_us(), 0), 0, 0, "rejected", type(error).__name__
            )
            await self._post_error(error, usage, Phases(), post)
            raise

    def _refused(self, call: Call, error: DsfnError) -> None:
        """Nothing ran: there is nothing for the books, but it must be seen."""
        self.metrics.failed(call.function, type(error).__name__, "rejected")

    async def _run(
        self, call: Call, revision: Revision, whole: bool, post: Post
    ) -> tuple[Lease, int | None, Reply, Stream | None]:
        """The lease in which a call runs, what of it that may take, its reply, and the stream that
        this begins. Another replica is tried where one had gone before it read the call."""
        attempts = ATTEMPTS
        while True:
            attempts -= 1
            lease = await self._lease(call, revision)
            limit_us = self._limit_us(call, lease)
            if limit_us is not None and limit_us <= 0:
                lease.replica.unreserve(lease.slot)
                raise self._too_dear(call)
            try:
                reply = await self._reply_in_time(call, lease, whole, limit_us)
                stream = await _begin(reply) if reply.stream is not None else None
                return lease, limit_us, reply, stream
            except NotBegun as lost:
                if attempts:
                    lease.slot.discard()
                    continue
                await self._post_failure(call, lease, lost.error, post)
                raise lost.error from None
            except BaseException as error:
                await self._post_failure(call, lease, error, post)
                if isinstance(error, CorruptBlob):
                    # The next call that needs it gets the bucket's copy, if there is one.
                    await self.blobs.discard(str(error.fields["blob"]))
                raise

    async def _lease(self, call: Call, revision: Revision) -> Lease:
        try:
            return await self.pools.acquire(revision)
        except DsfnError as error:
            self._refused(call, error)
            raise

    async def _reply(self, call: Call, lease: Lease, whole: bool) -> Reply:
        reply = await lease.replica.call(call, lease.slot, self.pools.shares.threads())
        if whole:
            await self._collect(reply)
        return reply

    async def _reply_in_time(
        self, call: Call, lease: Lease, whole: bool, limit_us: int | None
    ) -> Reply:
        """The reply, unless it costs more than it may. Raises `BudgetExceeded`, `NotBegun`."""
        if limit_us is None:
            return await self._reply(call, lease, whole)
        try:
            async with asyncio.timeout(limit_us / 1_000_000) as limit:
                return await self._reply(call, lease, whole)
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._too_dear(call) from None

    def _too_dear(self, call: Call) -> BudgetExceeded:
        """The error of a call that was cut off, or not begun, for want of money."""
        return self.purse.exceeded(call) or BudgetExceeded(
            f"The call would cost more than {call.max_cost_nano} nano-units.",
            budget_nano=call.max_cost_nano,
        )

    def _limit_us(self, call: Call, lease: Lease) -> int | None:
        """How long a call may hold its replica, None for as long as it likes."""
        if call.max_cost_nano is None:
            return None
        devices = lease.slot.lease.subject
        rate = self.in_force().rate(devices.device_class)
        limit_us = rate.affordable_us(call.max_cost_nano, lease.slot.restore_us * devices.devices)
        return None if limit_us is None else limit_us // devices.devices

    async def _collect(self, reply: Reply) -> None:
        """Turns a streaming reply into one with a body, within the limit of results."""
        stream, reply.stream = reply.stream, None
        if stream is None:
            return
        chunks, size = [], 0
        async with aclosing(stream):
            async for chunk in stream:
                chunks.append(chunk)
                size += len(chunk)
                if size > self.limits.max_result_bytes:
                    raise OutputTooLarge(
                        f"The result is larger than {self.limits.max_result_bytes} bytes.",
                        limit_bytes=self.limits.max_result_bytes,
                    )
        reply.body = b"".join(chunks)

    async def _metered(
        self,
        stream: Stream,
        call: Call,
        lease: Lease,
        charges: list[Charge],
        limit_us: int | None,
        post: Post,
    ) -> AsyncGenerator[bytes, None]:
        """Passes a stream on; its row is committed, and its charge known, before its end."""
        until_s = None if limit_us is None else lease.granted_ns / 1e9 + limit_us / 1e6
        try:
            try:
                async with aclosing(stream.chunks) as chunks:
                    async for chunk in self._in_time(chunks, call, until_s):
                        yield chunk
            except BaseException as error:
                await self._post_failure(call, lease, error, post)
                raise
            usage = self._settled(call, lease, stream.reply.busy_us)
            self._answered(call, self._answer(lease, stream.reply, usage))
            await post(usage)
            charges.append(self._charge(usage))
        finally:
            self.purse.release(call.id)

    async def _in_time(
        self, chunks: AsyncGenerator[bytes, None], call: Call, until_s: float | None
    ) -> AsyncGenerator[bytes, None]:
        """The chunks that come before the monotonic clock says `until_s`. Raises
        `BudgetExceeded` when it does."""
        while True:
            left_s = None if until_s is None else until_s - self.clock.monotonic_ns() / 1e9
            try:
                async with asyncio.timeout(left_s) as limit:
                    chunk = await anext(chunks, None)
            except TimeoutError:
                if not limit.expired():
                    raise
                raise self._too_dear(call) from None
            if chunk is None:
                return
            yield chunk

    def _answered(self, call: Call, answer: Answer) -> None:
        self.metrics.answered(call.function, answer)
        self.timelines.answered(call.function, answer, self.clock.now_us())

    async def _post_failure(
        self, call: Call, lease: Lease, error: BaseException, post: Post
    ) -> None:
        """Posts the row of a call that gave no answer: all the time it held was busy."""
        cause = cause_of_failure(error, call)
        usage = self._settled(call, lease, None, status_of_failure(cause), type(cause).__name__)
        await self._post_error(error, usage, self._phases(lease), post)

    async def _post_error(
        self, error: BaseException, usage: Usage, phases: Phases, post: Post
    ) -> None:
        self.metrics.failed(usage.function, usage.error, usage.status)
        if isinstance(error, DsfnError):
            error.add_fields(
                revision=usage.revision,
                phases=phases.server_timing(),
                charge=self._charge(usage).to_document(),
            )
        await post(usage)

    def _settled(
        self,
        call: Call,
        lease: Lease,
        busy_us: int | None,
        status: Status = "succeeded",
        error: str = "",
    ) -> Usage:
        """The row of a call that is over for its caller. That it was cut off a little late, or
        came to a replica only to be refused, is not the caller's to pay, and neither is the
        restore for a call that was refused or that the platform lost."""
        slot = lease.slot
        limit_us = 0 if status == "rejected" else self._limit_us(call, lease)
        pays = status not in ("rejected", "platform")
        restore_us = slot.pay_restore(call.tenant if pays else "")
        held = slot.settle(limit_us)
        return self._usage(call, slot.lease.subject, held, busy_us, restore_us, status, error)

    def _usage(
        self,
        call: Call,
        devices: Subject,
        held: Held,
        busy_us: int | None,
        restore_us: int,
        status: Status = "succeeded",
        error: str = "",
    ) -> Usage:
        """The row of a call as of now; a replica's time is shared by the calls that it runs."""
        origin = call.origin or _NO_ORIGIN
        return Usage(
            invocation_id=call.id,
            tenant=call.tenant,
            caller=call.caller,
            function=call.function,
            revision=devices.revision,
            device_class=devices.device_class,
            started_at_us=held.started_at_us,
            busy_us=held.held_us if busy_us is None else min(busy_us, held.held_us),
            held_us=held.held_us,
            restore_us=restore_us,
            status=status,
            error=error,
            idempotency_key=call.idempotency_key or "",
            key_id=call.key_id,
            device=devices.device,
            lease=devices.lease,
            devices=devices.devices,
            workflow=origin.workflow,
            run=origin.run,
            step=origin.step,
        )

    def _answer(self, lease: Lease, reply: Reply, usage: Usage) -> Answer:
        return Answer(
            call_id=usage.invocation_id,
            revision=usage.revision,
            content_type=reply.content_type,
            phases=self._phases(lease, reply.weights_us),
            charge=self._charge(usage),
            body=reply.body,
        )

    def _charge(self, usage: Usage) -> Charge:
        return charge_of(usage, self.in_force())

    def _phases(self, lease: Lease, weights_us: int = 0) -> Phases:
        execute_us = (self.clock.monotonic_ns() - lease.granted_ns) // 1000
        parts = (*lease.parts, ("execute.weights", weights_us)) if weights_us else lease.parts
        return Phases(lease.queue_us, lease.start_us, lease.restore_us, execute_us, parts)


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream whose first chunk has arrived."""

    reply: Reply
    chunks: AsyncGenerator[bytes, None]


async def _begin(reply: Reply) -> Stream:
    """Waits for the first chunk, so that a function that fails before it can still answer
    with a status, and so that closing the stream always reaches the worker."""
    assert reply.stream is not None
    first = await anext(reply.stream, None)
    return Stream(reply, _rest(first, reply.stream))


async def _rest(
    first: bytes | None, stream: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    if first is None:
        return
    async with aclosing(stream):
        yield first
        async for chunk in stream:
            yield chunk
