"""A workflow as a value: which steps there are, and what flows between them.

A step is a `Call` of a function, a `Decide` between two branches, or an `Each` that fans out
over lists. All steps lie in one flat sequence, each after those that it needs; `within` says
which branch or fan-out a step belongs to, if any, and the chain of those is its scope. A step
inside an `Each` runs once for each item.

What flows is said by expressions, which are documents, too:

    {"input": NAME}                     an input of the run
    {"result": STEP}                    what a call gave; of a step in the same or an outer scope
    {"item": [EACH, INDEX]}             this item of the EACH around; INDEX: of which of its lists
    {"value": JSON}                     a constant
    {"list": [EXPR, ...]}, {"object": {NAME: EXPR}}
    {"field": [EXPR, KEY]}              a member (KEY a text) or an element (a number) of JSON
    {"choose": [DECIDE, THEN, OTHERWISE]}   the branch that was taken
    {"collect": [EACH, EXPR]}           EXPR of every item, in order, once all items are through
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from dsfn.functions.interface import FilterInterface, Kind
from dsfn.functions.retrying import Policy
from dsfn.functions.values import dataclass

MAX_STEPS = 1_000
MAX_DEPTH = 8
MAX_ITEMS = 10_000
MAX_INSTANCES = 100_000
DEFAULT_PARALLEL = 16
MAX_PARALLEL = 1_000
MAX_EXPRESSIONS = 100_000
MAX_CONSTANT_BYTES = 4 << 20

JsonValue = Any


@dataclass(frozen=True, slots=True)
class Input:
    """An input of the run."""

    name: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a call gave."""

    step: str


@dataclass(frozen=True, slots=True)
class Item:
    """The item that an `Each` around is at, of its list number `index`."""

    each: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class Constant:
    """A JSON value, as its compact text: values of this module can be compared and hashed."""

    text: str

    @classmethod
    def of(cls, value: JsonValue) -> Constant:
        """The constant of a JSON-able value. Raises `TypeError` and `ValueError` for others."""
        return cls(json.dumps(value, allow_nan=False, separators=(",", ":"), sort_keys=True))


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of expressions."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class ObjectOf:
    """An object of expressions, by name."""

    members: tuple[tuple[str, Expr], ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A member or an element of a JSON value."""

    of: Expr
    key: str | int


@dataclass(frozen=True, slots=True)
class Choice:
    """What the branch gave that a `Decide` took."""

    decide: str
    then: Expr
    otherwise: Expr


@dataclass(frozen=True, slots=True)
class Collected:
    """`of` for every item of an `Each`, in order."""

    each: str
    of: Expr


Expr = Input | Result | Item | Constant | ListOf | ObjectOf | Field | Choice | Collected


@dataclass(frozen=True, slots=True)
class Within:
    """Where a step belongs: `taken` is the branch of a `Decide`, None inside an `Each`."""

    step: str
    taken: bool | None = None


@dataclass(frozen=True, slots=True)
class Fallback:
    """What stands in for a call that failed for good: a function, which gets the same arguments,
    or a constant."""

    function: str | None = None
    value: Constant | None = None


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How a call is made, in the words of Knative's DeliverySpec where it has them.

    `retries`: attempts after the first. The n-th waits `backoff_delay_s * 2**(n-1)`
    (exponential) or `backoff_delay_s * n` (linear), less up to half of it at random.
    `timeout_s`: of each attempt, waiting for a replica included. `cache`: the result of the same
    revision on the same input is used again. `budget_nano`: the most that all attempts may cost.
    """

    retries: int = 0
    backoff_policy: Policy = "exponential"
    backoff_delay_s: float = 0.2
    timeout_s: float | None = None
    cache: bool = False
    budget_nano: int | None = None
    fallback: Fallback | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function. `arguments` by parameter."""

    id: str
    function: str
    arguments: tuple[tuple[str, Expr], ...]
    within: Within | None = None
    options: StepOptions = StepOptions()


@dataclass(frozen=True, slots=True)
class Decide:
    """Takes one of two branches: `then` when `condition` is true as Python has it."""

    id: str
    condition: Expr
    within: Within | None = None


@dataclass(frozen=True, slots=True)
class Each:
    """Runs what is within it for each item of lists of equal length, `parallel` items at once."""

    id: str
    items: tuple[Expr, ...]
    within: Within | None = None
    parallel: int = DEFAULT_PARALLEL


Step = Call | Decide | Each


@dataclass(frozen=True, slots=True)
class WorkflowInput:
    """An input. `many`: a list of `kind`; `schema`: of one value (kind "json" only).
    `default`: what stands in when it is not given, unless `required`."""

    name: str
    kind: Kind
    many: bool = False
    schema: Mapping[str, Any] | None = None
    required: bool = True
    default: Constant | None = None


@dataclass(frozen=True, slots=True)
class WorkflowResult:
    """What a workflow declares to give; the members are as those of an input."""

    kind: Kind
    many: bool = False
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class WorkflowOptions:
    """`timeout_s`: of a whole run. `budget_nano`: the most that a run may cost. `parallel`: calls
    of a run under way at once. `schedule`: a cron expression in UTC. `tags`: for the planner."""

    name: str
    timeout_s: float = 86_400.0
    budget_nano: int | None = None
    parallel: int = 64
    schedule: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dag:
    """A workflow: its options, inputs, steps and output. `steps` are in an order in which each
    comes after those that it needs. `triggers`: events that start it. `result`: what its author
    says that it gives, if anything."""

    options: WorkflowOptions
    description: str
    inputs: tuple[WorkflowInput, ...]
    steps: tuple[Step, ...]
    output: Expr
    triggers: tuple[FilterInterface, ...] = ()
    result: WorkflowResult | None = None

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self.options.name

    @property
    def by_id(self) -> Mapping[str, Step]:
        """The steps by their ids."""
        return {step.id: step for step in self.steps}

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions that it may call, fallbacks included, each once, in order."""
        named: list[str] = []
        for step in self.steps:
            if isinstance(step, Call):
                named.append(step.function)
                fallback = step.options.fallback
                if fallback is not None and fallback.function is not None:
                    named.append(fallback.function)
        return tuple(dict.fromkeys(named))


def expressions_of(step: Step) -> tuple[Expr, ...]:
    """The expressions that a step reads."""
    if isinstance(step, Call):
        return tuple(expr for _, expr in step.arguments)
    return (step.condition,) if isinstance(step, Decide) else step.items


def parts_of(expr: Expr) -> Iterator[Expr]:
    """An expression and all that it is made of, outermost first."""
    yield expr
    for inner in _inner(expr):
        yield from parts_of(inner)


def _inner(expr: Expr) -> tuple[Expr, ...]:
    match expr:
        case ListOf(items):
            return items
        case ObjectOf(members):
            return tuple(inner for _, inner in members)
        case Field(of, _) | Collected(_, of):
            return (of,)
        case Choice(_, then, otherwise):
            return (then, otherwise)
    return ()
