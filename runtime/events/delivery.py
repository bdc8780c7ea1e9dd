"""A delivery: one call that waits on disk, and what is done when it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from dsfn.functions import errors
from dsfn.functions.errors import DsfnError
from dsfn.functions.options import Options
from dsfn.functions.retrying import MAX_BACKOFF_S, Policy
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import StepOptions
from dsfn.runtime.events.stored import StoredBody
from dsfn.runtime.model import Call, Payer
from dsfn.runtime.waiting import doubled_s

MAX_POSTPONED_S = 24 * 3600
_MAX_POSTPONEMENT_S = 60.0
_FIRST_POSTPONEMENT_S = 0.1
_MAX_DOUBLINGS = 40


class DeliveryKind(StrEnum):
    """An asynchronous call (`Prefer: respond-async`), or an event on its way to a function or to
    a workflow, whose run it starts; `function` is then the workflow's name."""

    CALL = "call"
    EVENT = "event"
    RUN = "run"


class DeliveryState(StrEnum):
    """`failed`: an asynchronous call's last word. `dead`: an event that could not be delivered."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What is put into the queue. `digest` covers content type and body."""

    id: str
    kind: DeliveryKind
    function: str
    revision: str | None
    payer: Payer
    caller: str
    idempotency_key: str
    content_type: str
    accept: str
    digest: bytes
    body: StoredBody


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that was handed out.

    `tries`: how often, this time included. `attempts`: how often the function
    failed it before; times when it could not be served do not count.
    `attempts_before`: how many of them lie before it was given up and, at
    `queued_at_us`, queued again. `stuck_answers`: how often it was given up for an answer
    that could not go on as an event.
    """

    id: str
    kind: DeliveryKind
    function: str
    revision: str | None
    payer: Payer
    caller: str
    idempotency_key: str
    content_type: str
    accept: str
    body: StoredBody
    tries: int
    attempts: int
    queued_at_us: int
    attempts_before: int = 0
    stuck_answers: int = 0

    def call(self, body: bytes, now_us: int, now_ns: int) -> Call:
        """The call that this try makes.

        Each try has an invocation id of its own, because each has a row of its
        own in the books. They share the key, as an attempt may have succeeded of which
        nobody heard. But an answer that could not go on is the first one to its key:
        after that one there is another key, as the function must run again.
        """
        key = self.idempotency_key
        if self.stuck_answers:
            key = f"{key}#{self.stuck_answers + 1}"
        return Call(
            id=self.id if self.tries == 1 else f"{self.id}.{self.tries}",
            function=self.function,
            body=body,
            content_type=self.content_type,
            accept=self.accept,
            tenant=self.payer.tenant,
            key_id=self.payer.key_id,
            caller=self.caller,
            idempotency_key=key,
            revision=self.revision,
            received_at_us=now_us,
            received_ns=now_ns,
        )


@dataclass(frozen=True, slots=True)
class Invocation:
    """What may be known about a delivery from outside. `error` is an error's document."""

    id: str
    tenant: str
    function: str
    revision: str | None
    state: DeliveryState
    attempts: int
    created_at_us: int
    finished_at_us: int | None
    error: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is made again.

    `retries`: attempts after the first. The n-th waits `backoff_delay_s * 2**(n-1)`
    (exponential) or `backoff_delay_s * n` (linear), less up to half of it at
    random, so that what failed together does not come back together.
    """

    retries: int = 3
    backoff_policy: Policy = "exponential"
    backoff_delay_s: float = 1.0

    @classmethod
    def of(cls, options: Options | StepOptions) -> RetryPolicy:
        """That of a function or of a step."""
        return cls(options.retries, options.backoff_policy, options.backoff_delay_s)

    def delay_us(self, failed: int, random: Callable[[], float]) -> int:
        """Microseconds to wait after `failed` failed attempts; `random` gives [0, 1)."""
        factor = failed
        if self.backoff_policy == "exponential":
            factor = 2 ** min(failed - 1, _MAX_DOUBLINGS)
        delay_s = min(self.backoff_delay_s * factor, MAX_BACKOFF_S)
        return int(delay_s * (1 - random() / 2) * 1_000_000)


class Verdict(StrEnum):
    """What follows from an error: `final`, `retry`, or `postpone` (the attempt does not count)."""

    FINAL = "final"
    RETRY = "retry"
    POSTPONE = "postpone"


def verdict(delivery: Delivery, error: DsfnError, policy: RetryPolicy, now_us: int) -> Verdict:
    """What to do with a delivery whose call raised `error`."""
    if isinstance(error, _NOT_SERVED):
        waited_us = now_us - delivery.queued_at_us
        return Verdict.FINAL if waited_us >= MAX_POSTPONED_S * 1_000_000 else Verdict.POSTPONE
    attempts = delivery.attempts - delivery.attempts_before
    # Nothing is left of a budget so soon: who wants to may have it delivered again.
    final = isinstance(error, errors.RequestError | errors.BudgetExceeded)
    if final or attempts >= policy.retries:
        return Verdict.FINAL
    if delivery.kind is not DeliveryKind.CALL or not isinstance(error, _FUNCTIONS_OWN):
        return Verdict.RETRY
    return Verdict.FINAL


def postponement_us(delivery: Delivery, error: DsfnError) -> int:
    """Microseconds until a delivery that could not be served is tried again.

    At least what the error asks for, and longer each time it happens.
    """
    times = max(0, delivery.tries - 1 - delivery.attempts)
    delay_s = doubled_s(_FIRST_POSTPONEMENT_S, times, _MAX_POSTPONEMENT_S)
    asked_s = error.fields.get("retry_after_s")
    if isinstance(asked_s, int | float) and asked_s > delay_s:
        delay_s = min(float(asked_s), MAX_BACKOFF_S)
    return int(delay_s * 1_000_000)


# The call did not come to run, or its client, who is us, called it off.
_NOT_SERVED = (errors.Unavailable, errors.StorageFull, errors.CallCancelled)
# A crash may be the machine's doing (the kernel short of memory), so it is not among them.
_FUNCTIONS_OWN = (
    errors.HandlerRaised,
    errors.HandlerTimedOut,
    errors.OutOfMemory,
    errors.OutputTooLarge,
)
