"""The shapes of the JSON documents of `dsfn cost` and `dsfn runs cost`."""

from __future__ import annotations

from typing import TypedDict


class SpentDocument(TypedDict):
    """What some calls come to. Times are x devices; `quantity_us` is what of them is billed."""

    requests: int
    quantity_us: int
    busy_us: int
    held_us: int
    restore_us: int
    amount_nano: int


class AttemptCostDocument(SpentDocument):
    """The `attempt`-th calls for their items that ended in the same way."""

    attempt: int
    status: str
    function: str
    device_class: str


class StepCostDocument(SpentDocument):
    """The calls of one step. `cached` and `taken_over` are items that cost nothing."""

    id: str
    items: int
    retries: int
    cached: int
    taken_over: int
    attempts: list[AttemptCostDocument]
    note: str


class RunCostDocument(SpentDocument):
    """`dsfn runs cost`."""

    run: str
    workflow: str
    revision: str
    state: str
    retry_of: str | None
    currency: str
    steps: list[StepCostDocument]


class EffectDocument(TypedDict):
    """How long calls took, and how many of them waited for a replica."""

    cold_calls: int
    p50_us: int | None
    p99_us: int | None


class ParkingDocument(EffectDocument):
    """What another time until parking would have come to."""

    park_after_us: int
    cost_nano: int


class KeepWarmDocument(TypedDict):
    """What a replica that is always there would have added and spared."""

    cost_nano: int
    spared_calls: int


class FunctionCostDocument(EffectDocument):
    """What one function's device time came to."""

    function: str
    calls: int
    cost_nano: int
    requests_nano: int
    restore_nano: int
    idle_nano: int
    parking: list[ParkingDocument]
    keep_warm: KeepWarmDocument


class PieceOfAdviceDocument(TypedDict):
    """One change of a function's options, and what it would have come to."""

    function: str
    kind: str
    change: str
    cost_nano: int
    changed_nano: int
    saving_nano: int
    saving_basis_points: int
    before: EffectDocument
    after: EffectDocument
    calls: int
    confidence: str
    assumption: str


class AdviceDocument(TypedDict):
    """`dsfn cost advise`."""

    start: str
    end: str
    currency: str
    cost_nano: int
    saving_nano: int
    functions: list[FunctionCostDocument]
    advice: list[PieceOfAdviceDocument]
