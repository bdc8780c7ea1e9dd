"""`@workflow`: how an author says that a function's body is a graph of steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, update_wrapper
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, cast, overload

from dsfn.functions.durations import Seconds
from dsfn.functions.errors import DefinitionError
from dsfn.functions.event import Filter
from dsfn.functions.function import Function
from dsfn.functions.interface import Kind
from dsfn.functions.option_values import kebab
from dsfn.functions.triggers import Triggered, triggers_of
from dsfn.functions.workflow.body import current_body, in_body
from dsfn.functions.workflow.dag import Dag, WorkflowInput, WorkflowOptions, WorkflowResult
from dsfn.functions.workflow.plain import Plain
from dsfn.functions.workflow.settings import Money, workflow_options
from dsfn.functions.workflow.signature import signature_of
from dsfn.functions.workflow.symbols import refuse_symbols
from dsfn.functions.workflow.tracing import Trace

P = ParamSpec("P")
R = TypeVar("R")

STEPS_OF_A_WORKFLOW = (
    "'{name}' is a workflow; retries, timeout and the like are set on the steps of that."
)


class Workflow(Triggered, Generic[P, R]):
    """A graph to deploy. Calling it runs the plain functions one after the other; in the body of
    another workflow its steps become that one's.

    `target` is what was decorated.
    """

    __name__: str
    __qualname__: str
    __wrapped__: Callable[P, R]

    def __init__(
        self, target: Callable[P, R], options: WorkflowOptions, triggers: tuple[Filter, ...] = ()
    ) -> None:
        update_wrapper(self, target, updated=())
        self.target = target
        self.options = options
        self.triggers = triggers

    @property
    def called(self) -> str:
        """Its name."""
        return self.options.name

    @property
    def result_kind(self) -> tuple[Kind, bool]:
        """Of what kind its result is, and whether it is a list of that."""
        _, result = self._signature
        return result.kind, result.many

    def trace(self) -> Dag:
        """The graph. Raises `DefinitionError`, with the line of the body that is at fault."""
        inputs, result = self._signature
        trace = Trace(self)
        output = trace.run(inputs)
        return Dag(
            options=self.options,
            description=inspect.cleandoc(self.__doc__ or ""),
            inputs=inputs,
            steps=tuple(trace.steps),
            output=output,
            triggers=tuple(t.interface() for t in self.triggers),
            result=result,
        )

    def step(self, **_: object) -> NoReturn:
        """A workflow is no step. Raises `DefinitionError`, which says what to do instead."""
        raise DefinitionError(STEPS_OF_A_WORKFLOW.format(name=self.called), function=self.called)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        body = current_body()
        if body is not None:
            return cast(R, body.inline(self, args, kwargs))
        refuse_symbols((*args, *kwargs.values()))
        with in_body(Plain()):
            return self.target(*args, **kwargs)

    def __reduce__(self) -> str:
        # Pickled by name, as the plain function would be.
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<dsfn workflow {self.options.name!r}>"

    @cached_property
    def _signature(self) -> tuple[tuple[WorkflowInput, ...], WorkflowResult]:
        return signature_of(self.target)


@overload
def workflow(target: Callable[P, R], /) -> Workflow[P, R]: ...


@overload
def workflow(
    *,
    name: str | None = None,
    timeout: Seconds = "24h",
    budget: Money | None = None,
    parallel: int = 64,
    schedule: str | None = None,
    tags: Sequence[str] = (),
) -> Callable[[Callable[P, R]], Workflow[P, R]]: ...


def workflow(target: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Makes a function whose body calls deployed functions a workflow.

    Bare or with options: `name` (default: the function's, in kebab-case), `timeout` of a whole
    run (seconds or "5m"), `budget` (the most that a run may cost, such as "0.05" in the node's
    currency), `parallel` (calls of a run under way at once), `schedule` (a cron expression in
    UTC), `tags`. Raises `DefinitionError`.
    """
    if target is not None and options:
        raise DefinitionError("@workflow takes its options by name, and nothing else.")
    if target is not None:
        return _make(target, {})
    return lambda decorated: _make(decorated, options)


def _make(target: Any, options: Mapping[str, Any]) -> Workflow[..., Any]:
    if isinstance(target, Workflow | Function):
        raise DefinitionError(
            f"'{target.__name__}' is decorated already; something is a function or a workflow."
        )
    if not inspect.isfunction(target):
        raise DefinitionError(f"@workflow goes on a function, not on a {type(target).__name__}.")
    name = target.__name__
    if inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target):
        raise DefinitionError(
            f"Workflow '{name}' must be a plain function, not an asynchronous one: its steps run"
            " in parallel where they can without that.",
            function=name,
        )
    if inspect.isgeneratorfunction(target):
        raise DefinitionError(
            f"Workflow '{name}' yields; it must return what it gives.", function=name
        )
    found = dict(options)
    given = found.pop("name", None)
    unknown = found.keys() - {"timeout", "budget", "parallel", "schedule", "tags"}
    if unknown:
        raise DefinitionError(f"@workflow has no option '{min(unknown)}'.")
    own = kebab(name) if given is None else given
    return Workflow(target, workflow_options(name=own, **found), triggers_of(target))
