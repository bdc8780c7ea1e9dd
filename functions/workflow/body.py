"""What calls in the body of a workflow come to: steps of a trace, or the plain functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast

from dsfn.functions.errors import DefinitionError
from dsfn.functions.interface import Kind
from dsfn.functions.workflow.constants import constant_of
from dsfn.functions.workflow.dag import Fallback
from dsfn.functions.workflow.settings import PLAIN, StepSettings, StepWords, step_settings
from dsfn.functions.workflow.symbols import is_symbol, refuse_symbols

P = ParamSpec("P")
R = TypeVar("R")


class Callee(Generic[P, R]):
    """What a step may call: a function that is here, or one that is known by its name alone.

    In the body of a workflow a call becomes a step; elsewhere it is a plain one.
    """

    @property
    def called(self) -> str:
        """Its name."""
        raise NotImplementedError

    @property
    def result_kind(self) -> Kind | None:
        """Of what kind its result is; None when that is not known here."""
        raise NotImplementedError

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls it as it is. Raises `NotFound` when it is not here."""
        raise NotImplementedError

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by parameter. Raises `TypeError` as a call would."""
        raise NotImplementedError

    def step(self, **words: Unpack[StepWords]) -> Step[P, R]:
        """The same to be called, with settings for the step that the call becomes.

        `retries`: attempts after the first. `backoff_policy` ("linear", "exponential") and
        `backoff_delay` (seconds, "200ms" or "PT0.2S"): the wait before each. `timeout`: of an
        attempt. `cache`: the result of the same revision on the same input is used again.
        `budget`: the most that all attempts may cost, such as "0.05". `fallback`: what stands
        in when it failed for good, a function or a value. `name`: the step's, numbered from the
        second of that name on.
        Raises `DefinitionError`.
        """
        return Step(self, settings_of(words))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        body = current_body()
        if body is None:
            refuse_symbols((*args, *kwargs.values()))
            return self.run(*args, **kwargs)
        return cast(R, body.call(self, PLAIN, args, kwargs))


class Step(Generic[P, R]):
    """A function with settings for the step that a call of it becomes."""

    def __init__(self, callee: Callee[P, R], settings: StepSettings) -> None:
        self.callee = callee
        self.settings = settings

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        body = current_body()
        if body is None:
            refuse_symbols((*args, *kwargs.values()))
            return self.callee.run(*args, **kwargs)
        return cast(R, body.call(self.callee, self.settings, args, kwargs))

    def __repr__(self) -> str:
        return f"<step of {self.callee!r}>"


class Subflow(Protocol):
    """A workflow that is called in the body of another."""

    @property
    def called(self) -> str:
        """Its name."""

    @property
    def target(self) -> Callable[..., Any]:
        """Its body."""

    @property
    def result_kind(self) -> tuple[Kind, bool]:
        """Of what kind its result is, and whether it is a list of that."""


class Body(Protocol):
    """What the calls in a workflow's body come to."""

    def call(
        self,
        callee: Callee[..., Any],
        settings: StepSettings,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """The result of a step."""

    def inline(self, workflow: Subflow, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The result of another workflow, whose steps become this one's."""

    def map(
        self, function: Callable[..., Any], lists: Sequence[Any], parallel: int, name: str
    ) -> Any:
        """The results of a function for each item of lists of equal length."""

    def when(self, condition: Any, then: Any, otherwise: Any, name: str) -> Any:
        """The result of one branch of two, which are callables or values."""


_BODY: ContextVar[Body | None] = ContextVar("dsfn_workflow_body", default=None)


def current_body() -> Body | None:
    """Whose body this code is in; None outside of every workflow."""
    return _BODY.get()


@contextmanager
def in_body(body: Body | None) -> Iterator[None]:
    """Runs code as the body of a workflow; for None, as no such body."""
    token = _BODY.set(body)
    try:
        yield
    finally:
        _BODY.reset(token)


def settings_of(words: StepWords) -> StepSettings:
    """A step's settings from an author's words. Raises `DefinitionError`."""
    fallback = _fallback(words["fallback"]) if "fallback" in words else None
    return step_settings(words, fallback)


def _fallback(value: Any) -> Fallback:
    if is_symbol(value) or (callable(value) and not isinstance(value, Callee)):
        raise DefinitionError("A fallback is a deployed function or a constant value.")
    if isinstance(value, Callee):
        return Fallback(function=value.called)
    try:
        return Fallback(value=constant_of(value))
    except TypeError as error:
        raise DefinitionError(f"The fallback {error}.") from error
