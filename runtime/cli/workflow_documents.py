"""The shapes of the JSON documents of workflows, runs and dead letters."""

from __future__ import annotations

from typing import Any, TypedDict

from dsfn.runtime.cli.documents import SubscriptionDocument


class CostDocument(TypedDict):
    """An amount in billionths of the currency."""

    currency: str
    amount_nano: int


class WorkflowSummaryDocument(TypedDict):
    """One line of `dsfn workflow list`."""

    name: str
    revision: str
    url: str
    created_at: str
    steps: int
    schedule: str | None
    tags: list[str]


class WorkflowDocument(WorkflowSummaryDocument):
    """All that a node tells of one workflow; `dag` is the workflow itself."""

    description: str
    inputs: list[dict[str, Any]]
    functions: list[str]
    subscriptions: list[SubscriptionDocument]
    dag: dict[str, Any]


class WorkflowRevisionDocument(TypedDict):
    """One line of `dsfn workflow history`, newest first."""

    revision: str
    created_at: str
    serving: bool
    steps: int


class RunSummaryDocument(TypedDict):
    """One line of `dsfn runs list`. `error` is a problem document (RFC 9457)."""

    id: str
    workflow: str
    revision: str
    state: str
    error: dict[str, Any] | None
    started_at: str
    finished_at: str | None
    cost: CostDocument
    held_us: int
    retry_of: str | None


class RunsDocument(TypedDict):
    """`dsfn runs list`: `next` is the id to go on `--before`, null at the end."""

    runs: list[RunSummaryDocument]
    next: str | None


class RunStepDocument(TypedDict):
    """One call of a run. `item`: which one of a fan-out, null outside one, several in nested
    ones."""

    id: str
    function: str
    revision: str | None
    item: int | list[int] | None
    state: str
    attempts: int
    started_at: str | None
    finished_at: str | None
    busy_us: int
    held_us: int
    cost: CostDocument
    cached: bool
    error: dict[str, Any] | None
    invocations: list[str]


class StepProgressDocument(TypedDict):
    """One step of a run over all its items: how many are in each state."""

    id: str
    kind: str
    states: dict[str, int]
    wall_us: int | None
    held_us: int
    cost: CostDocument
    retried: int
    cached: int


class RunDocument(TypedDict):
    """`dsfn runs show`. `steps_next`: from where to go on when there are more of them."""

    id: str
    workflow: str
    revision: str
    state: str
    output: Any
    error: dict[str, Any] | None
    started_at: str
    finished_at: str | None
    cost: CostDocument
    held_us: int
    steps: list[RunStepDocument]
    steps_total: int
    steps_next: int | None
    progress: list[StepProgressDocument]
    retry_of: str | None


class RunLogDocument(TypedDict):
    """One line that a call of a run printed."""

    time: str
    revision: str
    replica: int
    invocation: str
    stream: str
    text: str
    step: str
    item: int | list[int] | None
    function: str


class DeadLetterDocument(TypedDict):
    """One line of `dsfn deadletters list`. `kind`: "event" or "run"; `name`: of the function or
    workflow."""

    id: str
    kind: str
    name: str
    revision: str | None
    attempts: int | None
    created_at: str
    died_at: str
    error: dict[str, Any]


class DeadLettersDocument(TypedDict):
    """`dsfn deadletters list`: `next` is what to go on `--before`, null at the end."""

    deadletters: list[DeadLetterDocument]
    next: str | None


class DeadLetterShowDocument(DeadLetterDocument):
    """`dsfn deadletters show`: with the event, or with the run."""

    event: dict[str, Any] | None
    run: RunSummaryDocument | None


class ReplayedDocument(TypedDict):
    """`dsfn deadletters replay`: where to look for what becomes of it."""

    id: str
    kind: str
    location: str
