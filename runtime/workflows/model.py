"""The values of running workflows: revisions, runs, steps and what flows between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import Dag

Path = tuple[int, ...]
"""Which items a step runs for: an index for each `Each` around it, outermost first."""


class RunState(StrEnum):
    """`running` until the one final event; the others are for ever."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(StrEnum):
    """`skipped`: its branch was not taken. `cancelled`: its run ended before it did."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class WorkflowRevision:
    """An immutable build of a workflow; its id is the name, a dash and a digest."""

    id: str
    workflow: str
    dag: Dag
    created_at_us: int


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes with their content type: inline, or in the blob store under `ref`."""

    content_type: str
    size_bytes: int
    inline: bytes | None = None
    ref: str | None = None
    name: str | None = None


Value = Blob | Sequence["Value"] | Mapping[str, "Value"]
"""What an expression comes to: a blob (JSON is one of content type application/json), or lists
and objects of such."""


@dataclass(frozen=True, slots=True)
class Cause:
    """The event that a run follows from. `hops`: how many functions and runs it went through."""

    id: str
    correlation: str
    hops: int = 0


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be started. `caller` is who asked, `key_id` with which API key ("" for none);
    `cause` the event that did, if one did.
    `pins` says which revision of each function it keeps to. The steps that the run `retry_of`
    has finished are taken over."""

    id: str
    revision: WorkflowRevision
    inputs: Mapping[str, Value]
    pins: Mapping[str, str]
    tenant: str = "default"
    key_id: str = ""
    caller: str = ""
    idempotency_key: str | None = None
    traceparent: str | None = None
    cause: Cause | None = None
    retry_of: str | None = None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What is known of one step for one item. `function` and `revision` are None for a step that
    calls none; `outcome` is then what has been found: whether a decision took its first branch,
    how many items a fan-out has. Costs are of all attempts."""

    step: str
    path: Path
    function: str | None
    revision: str | None
    state: StepState
    attempts: int = 0
    started_at_us: int | None = None
    finished_at_us: int | None = None
    busy_us: int = 0
    held_us: int = 0
    cost_nano: int = 0
    cached: bool = False
    invocations: tuple[str, ...] = ()
    error: Mapping[str, Any] | None = None
    outcome: int | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is known of a run, but for its steps. `output` is there when it succeeded: one value as
    it is, a list or object as JSON. `error` (an error's document; its fields have `step` and
    `item` where one step is the reason) when it failed."""

    id: str
    workflow: str
    revision: str
    state: RunState
    tenant: str
    caller: str
    started_at_us: int
    finished_at_us: int | None
    held_us: int
    cost_nano: int
    output: Blob | None = None
    error: Mapping[str, Any] | None = None
    retry_of: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What has just happened to a run: one of its steps is in another state, or it has ended."""

    run: str
    step: StepRecord | None = None
    ended: RunRecord | None = None


def item_of(path: Path) -> int | list[int] | None:
    """The items of a path as documents have them."""
    if not path:
        return None
    return path[0] if len(path) == 1 else list(path)
