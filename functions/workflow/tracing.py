"""Tracing: the body of a workflow is run once, without values, and what it calls is noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any, NoReturn

from dsfn.functions.errors import DefinitionError
from dsfn.functions.interface import Kind
from dsfn.functions.workflow.body import Callee, Subflow, in_body
from dsfn.functions.workflow.constants import constant_of
from dsfn.functions.workflow.dag import (
    MAX_DEPTH,
    MAX_STEPS,
    Call,
    Choice,
    Collected,
    Decide,
    Each,
    Expr,
    Input,
    Item,
    ListOf,
    ObjectOf,
    Result,
    Step,
    Within,
    WorkflowInput,
)
from dsfn.functions.workflow.lines import Line, calling_line, failing_line, first_line
from dsfn.functions.workflow.settings import StepSettings
from dsfn.functions.workflow.symbols import MAP, Origin, Scope, Symbol, is_symbol, origin_of


class Trace:
    """The steps of one workflow, as its body calls them. Is the `Body` while that runs."""

    def __init__(self, workflow: Subflow) -> None:
        self.steps: list[Step] = []
        self._flows = [workflow]
        self._prefix = ""
        self._scope: Scope = ()
        self._ids: set[str] = set()
        self._returned = False
        self._refused: DefinitionError | None = None

    def run(self, inputs: Sequence[WorkflowInput]) -> Expr:
        """Runs the body on symbols of its inputs; what it returns. Raises `DefinitionError`."""
        given = {
            i.name: self._symbol(Input(i.name), f"input '{i.name}'", i.kind, i.many) for i in inputs
        }
        (workflow,) = self._flows
        try:
            with in_body(self):
                output = workflow.target(**given)
            # What the body did with the error of a refusal is no excuse.
            if self._refused is None:
                self._returned = True
                return self.lower(output, "the result")
        except (Exception, SystemExit) as error:
            if self._refused is None:
                raise self._failed(error) from error
        assert self._refused is not None
        raise self._refused

    def refuse(self, problem: str) -> NoReturn:
        """Raises `DefinitionError` that names the workflow and the author's line."""
        line = first_line(self._flows[0].target) if self._returned else calling_line()
        error = self._error(line, problem)
        self._refused = self._refused or error
        raise error

    def call(
        self,
        callee: Callee[..., Any],
        settings: StepSettings,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """A step that calls a function."""
        try:
            given = callee.bind(args, kwargs)
        except TypeError as error:
            self.refuse(f"'{callee.called}' cannot be called like this: {error}")
        id_ = self._id(settings.name or callee.called)
        arguments = tuple(
            (name, self.lower(value, f"argument '{name}' of step '{id_}'"))
            for name, value in given.items()
        )
        self._add(Call(id_, callee.called, arguments, self._within, settings.options))
        return self._symbol(Result(id_), f"the result of step '{id_}'", callee.result_kind)

    def inline(self, workflow: Subflow, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The steps of another workflow, under its name."""
        if workflow in self._flows:
            chain = " -> ".join(f.called for f in (*self._flows, workflow))
            self.refuse(f"a workflow must not call itself ({chain})")
        try:
            given = signature(workflow.target).bind(*args, **kwargs)
        except TypeError as error:
            self.refuse(f"workflow '{workflow.called}' cannot be called like this: {error}")
        given.apply_defaults()
        id_ = self._id(workflow.called)
        symbols = {
            name: self._argument(value, f"argument '{name}' of workflow '{workflow.called}'")
            for name, value in given.arguments.items()
        }
        with self._inside(id_, workflow):
            output = self.lower(workflow.target(**symbols), f"the result of '{workflow.called}'")
        return self._symbol(output, f"the result of workflow '{id_}'", *workflow.result_kind)

    def map(
        self, function: Callable[..., Any], lists: Sequence[Any], parallel: int, name: str
    ) -> Any:
        """A fan-out; `function` is called once, with symbols of the items."""
        id_ = self._id(name)
        for value in lists:
            self._check_list(value)
        exprs = tuple(self.lower(value, f"a list of map '{id_}'") for value in lists)
        self._add(Each(id_, exprs, self._within, parallel))
        with self._deeper(Within(id_)):
            items = [
                self._symbol(Item(id_, i), f"an item of map '{id_}'", _kind_of(value)[0])
                for i, value in enumerate(lists)
            ]
            result = function(*items)
            each = self.lower(result, f"what map '{id_}' gives for an item")
            kind, many = _kind_of(result)
        what = f"what map '{id_}' gives"
        return self._symbol(Collected(id_, each), what, None if many else kind, many=True)

    def when(self, condition: Any, then: Any, otherwise: Any, name: str) -> Any:
        """A decision; the branches are called apart, each in a scope of its own."""
        if not is_symbol(condition):
            return value_of(then if condition else otherwise)
        self._check_condition(condition)
        id_ = self._id(name)
        self._add(Decide(id_, self.lower(condition, f"the condition of '{id_}'"), self._within))
        exprs, kinds = [], set()
        for taken, branch in ((True, then), (False, otherwise)):
            with self._deeper(Within(id_, taken)):
                result = value_of(branch)
                exprs.append(self.lower(result, f"a branch of '{id_}'"))
                kinds.add(_kind_of(result))
        kind, many = kinds.pop() if len(kinds) == 1 else (None, False)
        return self._symbol(Choice(id_, exprs[0], exprs[1]), f"what '{id_}' chose", kind, many)

    def lower(self, value: Any, what: str) -> Expr:
        """A value of the body, symbols in lists and dictionaries included, as an expression."""
        if is_symbol(value):
            return self._usable(value)
        if not _holds_symbol(value):
            try:
                return constant_of(value)
            except TypeError as error:
                self.refuse(f"{what} {error}")
        if isinstance(value, Mapping):
            if not all(type(name) is str for name in value):
                self.refuse(f"{what} has a key that is no text")
            return ObjectOf(tuple((name, self.lower(v, what)) for name, v in value.items()))
        return ListOf(tuple(self.lower(v, what) for v in value))

    def _usable(self, symbol: Symbol) -> Expr:
        origin = origin_of(symbol)
        if origin.trace is not self:
            self.refuse(f"{origin.what} is of another workflow, or was kept from another trace")
        if self._scope[: len(origin.scope)] != origin.scope:
            inner = origin.scope[-1]
            where = "map" if inner.taken is None else "branch"
            self.refuse(
                f"{origin.what} was made in a {where} of '{inner.step}' and is not there outside"
                f" of it; return it from the {where}"
            )
        return origin.expr

    def _check_list(self, value: Any) -> None:
        if not is_symbol(value):
            if not isinstance(value, list | tuple):
                self.refuse(f"a map goes over lists, not over {type(value).__name__}")
        elif not origin_of(value).many and origin_of(value).kind not in (None, "json"):
            self.refuse(f"{origin_of(value).what} is of kind {origin_of(value).kind}, not a list")

    def _check_condition(self, condition: Symbol) -> None:
        origin = origin_of(condition)
        if not origin.many and origin.kind not in (None, "json", "text"):
            self.refuse(f"{origin.what} is of kind {origin.kind}; a condition is JSON or text")

    def _argument(self, value: Any, what: str) -> Symbol:
        """What the body of an inlined workflow gets: never a value, as when it runs by itself."""
        return value if is_symbol(value) else self._symbol(self.lower(value, what), what)

    def _symbol(
        self, expr: Expr, what: str, kind: Kind | None = None, many: bool = False
    ) -> Symbol:
        return Symbol(Origin(self, expr, self._scope, what, kind, many))

    @property
    def _within(self) -> Within | None:
        return self._scope[-1] if self._scope else None

    def _id(self, name: str) -> str:
        """An id that is not taken: the name, or the name with a number."""
        id_ = f"{self._prefix}{name}"
        number = 1
        while id_ in self._ids:
            number += 1
            id_ = f"{self._prefix}{name}-{number}"
        self._ids.add(id_)
        return id_

    def _add(self, step: Step) -> None:
        if len(self.steps) == MAX_STEPS:
            self.refuse(f"a workflow has at most {MAX_STEPS} steps; for many items {MAP}")
        self.steps.append(step)

    @contextmanager
    def _deeper(self, within: Within) -> Iterator[None]:
        if len(self._scope) == MAX_DEPTH:
            self.refuse(f"maps and branches are nested deeper than {MAX_DEPTH}")
        before = self._scope
        self._scope = (*before, within)
        yield
        self._scope = before

    @contextmanager
    def _inside(self, id_: str, workflow: Subflow) -> Iterator[None]:
        before = self._prefix
        self._prefix = f"{id_}."
        self._flows.append(workflow)
        yield
        self._flows.pop()
        self._prefix = before

    def _failed(self, error: BaseException) -> DefinitionError:
        if isinstance(error, DefinitionError):
            problem = error.message.removesuffix(".")
        else:
            problem = f"the body raised {type(error).__name__}: {error}".removesuffix(": ")
        return self._error(failing_line(error), problem)

    def _error(self, line: Line | None, problem: str) -> DefinitionError:
        name = self._flows[0].called
        where = f" ({line})" if line is not None else ""
        number = None if line is None else line.number
        return DefinitionError(
            f"In workflow '{name}'{where}: {problem}.", function=name, line=number
        )


def value_of(branch: Any) -> Any:
    """What a branch gives: itself, or what it returns when it is called."""
    return branch if is_symbol(branch) or not callable(branch) else branch()


def _kind_of(value: Any) -> tuple[Kind | None, bool]:
    if not is_symbol(value):
        return None, False
    return origin_of(value).kind, origin_of(value).many


def _holds_symbol(value: Any) -> bool:
    if is_symbol(value):
        return True
    if isinstance(value, Mapping):
        return any(_holds_symbol(v) for v in value.values())
    return isinstance(value, list | tuple) and any(_holds_symbol(v) for v in value)
