"""One attempt of a step: from its arguments to what came of the call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import field, replace
from hashlib import sha256
from typing import Protocol

from dsfn.billing.usage import Usage
from dsfn.functions.errors import BudgetExceeded, DsfnError, HandlerTimedOut, NotFound
from dsfn.functions.interface import ResultInterface
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.streams import whole_stream
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.clock import Clock
from dsfn.runtime.events.stored import INLINE_BYTES, request_digest
from dsfn.runtime.model import Answer, Call, Origin, Revision
from dsfn.runtime.workflows.active import ActiveRun, Allowance, Attempt
from dsfn.runtime.workflows.amounts import money
from dsfn.runtime.workflows.bodies import Body
from dsfn.runtime.workflows.cache import ResultCache
from dsfn.runtime.workflows.evaluation import Evaluation
from dsfn.runtime.workflows.model import Blob, Path
from dsfn.runtime.workflows.progress import Instance

_LOG = logging.getLogger("dsfn.workflows")


class Caller(Protocol):
    """Runs a call whose usage rows its caller keeps: each is given to `bill` before the call
    returns or raises."""

    async def __call__(self, call: Call, bill: Callable[[Usage], None]) -> Answer:
        """The answer. Raises the tree's errors."""
        ...


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The function answered. `digest`: of the request, when the result is to be kept for others,
    or, when it is `cached`, under which it was kept."""

    blob: Blob
    digest: bytes | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The call could not be made, or the function failed."""

    error: DsfnError


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The attempt was called off."""


@dataclass(eq=False, slots=True)
class Ended:
    """An attempt is over, and this came of it and was used for it."""

    run: ActiveRun
    instance: Instance
    attempt: Attempt
    outcome: Succeeded | Failed | Interrupted
    usages: list[Usage] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Attempts:
    """Makes attempts. `revision_of` finds a revision by its id."""

    caller: Caller
    evaluation: Evaluation
    blobs: BlobStore
    cache: ResultCache
    revision_of: Callable[[str], Revision]
    clock: Clock

    async def make(self, run: ActiveRun, instance: Instance, attempt: Attempt) -> Ended:
        """Sees an attempt through. Never raises: what went wrong is an outcome."""
        ended = Ended(run, instance, attempt, Interrupted())
        try:
            ended.outcome = await self._make(run, instance, attempt, ended.usages)
        except asyncio.CancelledError:
            # Called off by the engine, which learns by this outcome that it is over.
            return ended
        except DsfnError as error:
            ended.outcome = Failed(error)
        except Exception as error:  # noqa: BLE001  a fault of ours must not end the engine
            _LOG.exception("A fault of the node in step %s of run %s.", instance, run.id)
            ended.outcome = Failed(DsfnError(f"The node failed: {error!r}."))
        return ended

    async def _make(
        self, run: ActiveRun, instance: Instance, attempt: Attempt, usages: list[Usage]
    ) -> Succeeded:
        step = run.call(instance)
        interface = self.revision_of(attempt.revision).interface
        body = await self.evaluation.body(run, instance, interface)
        digest = None
        if step.options.cache:
            digest = await _digest(run.tenant, body)
            if (known := self.cache.get(attempt.revision, digest)) is not None:
                return Succeeded(known, digest, cached=True)
        call = self._call(run, instance, attempt, body)
        try:
            answer = await self._answer(call, step.options.timeout_s, usages)
        except BudgetExceeded as error:
            if "budget" in error.fields:
                # It is the tenant's, not the run's.
                raise
            assert attempt.allowance is not None
            raise over_budget(attempt.allowance) from None
        try:
            return Succeeded(await self._kept(answer, interface.result), digest)
        except BaseException:
            # It ran and gave what cannot be kept, so it has to run again: that is not charged.
            usages[:] = [replace(usage, status="platform") for usage in usages]
            raise

    async def _answer(self, call: Call, timeout_s: float | None, usages: list[Usage]) -> Answer:
        if timeout_s is None:
            return await self.caller(call, usages.append)
        try:
            async with asyncio.timeout(timeout_s) as limit:
                return await self.caller(call, usages.append)
        except TimeoutError:
            if not limit.expired():
                raise
            raise HandlerTimedOut(
                f"The step took longer than its timeout of {timeout_s:g} s.", timeout_s=timeout_s
            ) from None

    async def _kept(self, answer: Answer, result: ResultInterface) -> Blob:
        content_type, data = answer.content_type, answer.body
        if result.streaming:
            content_type, data = await asyncio.to_thread(whole_stream, result.kind, data)
        if len(data) <= INLINE_BYTES:
            return Blob(content_type, len(data), data)
        ref = await self.blobs.save(data, content_type)
        return Blob(content_type, len(data), None, ref)

    def _call(self, run: ActiveRun, instance: Instance, attempt: Attempt, body: Body) -> Call:
        step, path = instance
        place = f"{run.id}/{step}/{dotted(path)}"
        return Call(
            id=attempt.call_id,
            function=attempt.function,
            body=body.data,
            content_type=body.content_type,
            tenant=run.tenant,
            key_id=run.key_id,
            caller=f"run:{place}",
            idempotency_key=f"run:{place}",
            revision=attempt.revision,
            received_at_us=self.clock.now_us(),
            received_ns=self.clock.monotonic_ns(),
            max_cost_nano=None if attempt.allowance is None else attempt.allowance.nano,
            origin=Origin(run.workflow, run.id, step),
        )


async def _digest(tenant: str, body: Body) -> bytes:
    """Under what a result is kept for others of the same tenant."""
    if len(body.data) <= INLINE_BYTES:
        of_request = request_digest(body.content_type, body.data)
    else:
        of_request = await asyncio.to_thread(request_digest, body.content_type, body.data)
    return sha256(of_request + tenant.encode()).digest()


def function_of(run: ActiveRun, instance: Instance) -> str:
    """Which function an attempt calls."""
    options = run.call(instance).options
    if not run.tally(instance).stood_in:
        return run.call(instance).function
    assert options.fallback is not None and options.fallback.function is not None
    return options.fallback.function


def revision_in(run: ActiveRun, function: str) -> str:
    """The revision of a function that a run keeps to. Raises `NotFound`."""
    revision = run.pins.get(function)
    if revision is None:
        raise NotFound(f"There is no function {function!r}.", kind="function", name=function)
    return revision


def over_budget(allowance: Allowance) -> BudgetExceeded:
    """The error of a call that was cut off, or not begun, for want of money."""
    return BudgetExceeded(
        f"The {allowance.of} would have cost more than its budget of"
        f" {money(allowance.budget_nano)}.",
        budget_nano=allowance.budget_nano,
        of=allowance.of,
    )


def dotted(path: Path) -> str:
    """The items of a path as text."""
    return ".".join(map(str, path))
