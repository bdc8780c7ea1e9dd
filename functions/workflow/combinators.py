"""What tracing cannot see by itself: fan-out, decisions, functions that are deployed elsewhere.

Outside of a workflow these do the plain thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple, Unpack, overload

from dsfn.functions.errors import DefinitionError, NotFound
from dsfn.functions.interface import Kind
from dsfn.functions.workflow.body import Body, Callee, Step, current_body, in_body, settings_of
from dsfn.functions.workflow.dag import DEFAULT_PARALLEL
from dsfn.functions.workflow.plain import Plain
from dsfn.functions.workflow.settings import StepWords, check_name, check_parallel
from dsfn.functions.workflow.symbols import is_symbol
from dsfn.functions.workflow.workflow import Workflow

T = TypeVar("T")
U = TypeVar("U")
Ts = TypeVarTuple("Ts")


class Deployed(Callee[..., Any]):
    """A function, or a workflow, that is known by its name alone."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def called(self) -> str:
        """Its name."""
        return self._name

    @property
    def result_kind(self) -> Kind | None:
        """Not known here."""
        return None

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """It is not here. Raises `NotFound`."""
        raise NotFound(
            f"'{self._name}' is known by its name alone; it can be called where the workflow is"
            " deployed, not here.",
            kind="function",
            name=self._name,
        )

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Positional arguments get the names "0", "1", ...: the parameters are not known yet."""
        return {**{str(i): value for i, value in enumerate(args)}, **kwargs}

    def __repr__(self) -> str:
        return f"<deployed function {self._name!r}>"


def deployed(name: str) -> Deployed:
    """A function or workflow that is deployed already, by its name; to be called in workflows.

    Raises `DefinitionError` for what cannot be a name.
    """
    check_name("The name of a deployed function", name)
    return Deployed(name)


def map(
    function: Callable[..., T],
    /,
    *lists: Any,
    parallel: int = DEFAULT_PARALLEL,
    **words: Unpack[StepWords],
) -> list[T]:
    """What `function` gives for each item of a list, or of lists of equal length, in order.

    `function` may be a deployed function, a workflow, or any callable: its calls are steps that
    run for each item. `parallel`: items that are in progress at once. Of a deployed function
    the settings of its step may be given (see `Function.step`), of others `name` alone.
    Raises `DefinitionError`.
    """
    check_parallel(parallel)
    if not lists:
        raise DefinitionError("dsfn.map needs a list: dsfn.map(function, items).")
    mapped: Callable[..., T]
    if isinstance(function, Callee | Step):
        step = _with_settings(function, words)
        mapped, name = step, f"map-{step.settings.name or step.callee.called}"
    else:
        mapped, name = function, _own_name(function, words)
    with _here() as body:
        results: list[T] = body.map(mapped, lists, parallel, name)
    return results


@overload
def when(
    condition: Any, then: Callable[[], T], otherwise: Callable[[], U], *, name: str = "when"
) -> T | U: ...


@overload
def when(condition: Any, then: Callable[[], T], otherwise: U, *, name: str = "when") -> T | U: ...


@overload
def when(condition: Any, then: T, otherwise: Callable[[], U], *, name: str = "when") -> T | U: ...


@overload
def when(condition: Any, then: T, otherwise: U, *, name: str = "when") -> T | U: ...


def when(condition: Any, then: Any, otherwise: Any, *, name: str = "when") -> Any:
    """What one of two branches gives: `then` if `condition` is true as Python has it.

    A branch is a callable without parameters, such as a lambda, whose calls are steps that run
    only when it is taken; or a value. Raises `DefinitionError`.
    """
    check_name("The name of a step", name)
    with _here() as body:
        return body.when(condition, then, otherwise, name)


def gather(*results: *Ts) -> tuple[*Ts]:
    """These results together. Steps that do not need one another run at once with it or without
    it: it says so to who reads it."""
    return results


@contextmanager
def _here() -> Iterator[Body]:
    """The body that this code is in; outside of every workflow a plain one."""
    body = current_body() or Plain()
    with in_body(body):
        yield body


def _with_settings(function: Callee[..., T] | Step[..., T], words: StepWords) -> Step[..., T]:
    if isinstance(function, Callee):
        return Step(function, settings_of(words))
    if words:
        raise DefinitionError(
            f"The step of '{function.callee.called}' has its settings; give dsfn.map none."
        )
    return function


def _own_name(function: Callable[..., Any], words: StepWords) -> str:
    if is_symbol(function) or not callable(function):
        raise DefinitionError("dsfn.map needs a function, and then lists.")
    others = words.keys() - {"name"}
    if others:
        raise DefinitionError(
            f"{min(others)} is for the step of a deployed function; set it within what is mapped,"
            " by function.step(...)."
        )
    usual = f"map-{function.called}" if isinstance(function, Workflow) else "map"
    name = words.get("name", usual)
    check_name("The name of a map", name)
    return name
