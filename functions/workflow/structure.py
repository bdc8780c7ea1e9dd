"""Whether a DAG is one: names, order, scopes and limits, whatever its functions are.

A DAG that was traced is; one that comes as a document, or from YAML, must prove it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import field
from itertools import chain

from dsfn.functions.errors import DefinitionError
from dsfn.functions.interface import KINDS
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import (
    MAX_CONSTANT_BYTES,
    MAX_DEPTH,
    MAX_EXPRESSIONS,
    MAX_STEPS,
    Call,
    Choice,
    Collected,
    Constant,
    Dag,
    Decide,
    Each,
    Expr,
    Field,
    Input,
    Item,
    ListOf,
    ObjectOf,
    Result,
    Step,
    Within,
    WorkflowInput,
    expressions_of,
    parts_of,
)
from dsfn.functions.workflow.settings import (
    check_name,
    check_parallel,
    check_step_options,
    check_workflow_options,
)

MAX_INPUTS = 256
MAX_ID_CHARS = 255
Scope = tuple[Within, ...]

_MAX_PROBLEM_CHARS = 1_000
_ID = re.compile(r"[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)*")
_INPUT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_structure(dag: Dag) -> None:
    """Raises `DefinitionError` for what could not be run whatever its functions are."""
    check_workflow_options(dag.options)
    if len(dag.steps) > MAX_STEPS:
        raise wrong(dag, f"it has {len(dag.steps)} steps; at most {MAX_STEPS} are taken")
    _check_inputs(dag)
    _check_size(dag)
    checker = _Checker(dag, frozenset(i.name for i in dag.inputs), _ends(dag))
    for step in dag.steps:
        checker.step(step)
    checker.expr(dag.output, (), "its output")


def wrong(dag: Dag, problem: str) -> DefinitionError:
    """The error about a workflow; `problem` goes on after its name, without the full stop."""
    if len(problem) > _MAX_PROBLEM_CHARS:
        problem = f"{problem[:_MAX_PROBLEM_CHARS]}..."
    return DefinitionError(f"In workflow '{dag.name}', {problem}.", function=dag.name)


def _check_inputs(dag: Dag) -> None:
    if len(dag.inputs) > MAX_INPUTS:
        raise wrong(dag, f"there are {len(dag.inputs)} inputs; at most {MAX_INPUTS} are taken")
    names = [i.name for i in dag.inputs]
    for given in dag.inputs:
        problem = _input_problem(given)
        if problem is None and names.count(given.name) > 1:
            problem = "is there twice"
        if problem is not None:
            raise wrong(dag, f"input {given.name!r} {problem}")


def _check_size(dag: Dag) -> None:
    """Counts what the expressions are made of, and stops in time: a part of one may be shared,
    and what looks small has a document without end."""
    roots = [expr for step in dag.steps for expr in expressions_of(step)]
    size_bytes = sum(len(json.dumps(i.schema)) for i in dag.inputs)
    parts = chain.from_iterable(parts_of(root) for root in (*roots, dag.output))
    for count, part in enumerate(parts, 1):
        size_bytes += len(part.text) if isinstance(part, Constant) else 0
        if count > MAX_EXPRESSIONS:
            raise wrong(dag, f"more than {MAX_EXPRESSIONS} values are passed on")
        if size_bytes > MAX_CONSTANT_BYTES:
            raise wrong(dag, f"constants have more than {MAX_CONSTANT_BYTES} bytes in all")


def _input_problem(given: WorkflowInput) -> str | None:
    if not isinstance(given.name, str) or not _INPUT.fullmatch(given.name):
        return "is no name: it must be letters, digits and '_'"
    if given.kind not in KINDS:
        return f"is of the kind {given.kind!r}, which there is not"
    if given.kind == "event" and given.many:
        return "is a list of events; a run is started by one"
    if given.required == (given.default is not None):
        return "must have a default or be required, and not both"
    return None


def _ends(dag: Dag) -> Mapping[str, int]:
    ends: dict[str, int] = {}
    by_id = dag.by_id
    for count, step in enumerate(dag.steps, 1):
        within = step.within
        for _ in range(MAX_DEPTH):
            if within is not None:
                ends[within.step] = count
                around = by_id.get(within.step)
                within = None if around is None else around.within
    return ends


@dataclass(frozen=True, slots=True)
class _Checker:
    """Steps in order; of those that were looked at, their scopes are known. `ends`: how many
    steps there are up to the last one within a map or decision."""

    dag: Dag
    inputs: frozenset[str]
    ends: Mapping[str, int]
    seen: dict[str, Step] = field(default_factory=dict)
    scopes: dict[str, Scope] = field(default_factory=dict)

    def step(self, step: Step) -> None:
        self._id(step.id)
        scope = self._scope(step)
        for expr in expressions_of(step):
            self.expr(expr, scope, f"step '{step.id}'")
        match step:
            case Call():
                self._call(step)
            case Each():
                check_parallel(step.parallel)
                if not step.items:
                    raise wrong(self.dag, f"map '{step.id}' goes over no list")
        self.seen[step.id] = step
        self.scopes[step.id] = scope

    def expr(self, expr: Expr, scope: Scope, where: str) -> None:
        """Raises unless all that an expression needs is there by then, in this scope."""
        match expr:
            case Input(name):
                if name not in self.inputs:
                    raise wrong(self.dag, f"{where} needs the input '{name}', which there is not")
            case Result(step):
                self._visible(step, Call, scope, where)
            case Item(each, index):
                self._item(each, index, scope, where)
            case ListOf(items):
                for item in items:
                    self.expr(item, scope, where)
            case ObjectOf(members):
                for _, member in members:
                    self.expr(member, scope, where)
            case Field(of, key):
                if isinstance(key, bool) or not (isinstance(key, str) or key >= 0):
                    raise wrong(self.dag, f"{where} takes the member {key!r}, which none can be")
                self.expr(of, scope, where)
            case Choice(decide, then, otherwise):
                around = self._joined(decide, Decide, scope, where)
                self.expr(then, (*around, Within(decide, True)), where)
                self.expr(otherwise, (*around, Within(decide, False)), where)
            case Collected(each, of):
                around = self._joined(each, Each, scope, where)
                self.expr(of, (*around, Within(each)), where)
            case Constant():
                pass

    def _id(self, id_: str) -> None:
        if not _ID.fullmatch(id_) or len(id_) > MAX_ID_CHARS:
            raise wrong(
                self.dag,
                f"{id_!r} is no name for a step: it must be lower-case letters, digits and '-',"
                f" start with a letter, and have at most {MAX_ID_CHARS} characters",
            )
        if id_ in self.seen:
            raise wrong(self.dag, f"there are two steps of the name '{id_}'")

    def _scope(self, step: Step) -> Scope:
        within = step.within
        if within is None:
            return ()
        around = self.seen.get(within.step)
        if isinstance(around, Call) or around is None:
            raise wrong(
                self.dag,
                f"step '{step.id}' is within '{within.step}', no map or decision before it",
            )
        if isinstance(around, Each) is not (within.taken is None):
            raise wrong(self.dag, f"step '{step.id}' is in a branch of a map, or in none of two")
        scope = (*self.scopes[within.step], within)
        if len(scope) > MAX_DEPTH:
            raise wrong(
                self.dag,
                f"step '{step.id}' is in maps and branches nested deeper than {MAX_DEPTH}",
            )
        return scope

    def _call(self, call: Call) -> None:
        try:
            check_step_options(call.options)
            check_name("A function's name", call.function)
            fallback = call.options.fallback
            if fallback is not None and fallback.function is not None:
                check_name("A function's name", fallback.function)
        except DefinitionError as error:
            raise wrong(self.dag, f"step '{call.id}': {error.message.removesuffix('.')}") from error
        names = Counter(name for name, _ in call.arguments)
        for name, count in names.items():
            if count > 1:
                raise wrong(self.dag, f"step '{call.id}' gives the argument '{name}' twice")

    def _visible(self, id_: str, kind: type[Step], scope: Scope, where: str) -> Scope:
        step = self.seen.get(id_)
        if step is None:
            later = any(step.id == id_ for step in self.dag.steps)
            problem = "comes no sooner" if later else "there is not"
            raise wrong(self.dag, f"{where} needs step '{id_}', which {problem}")
        if not isinstance(step, kind):
            raise wrong(self.dag, f"{where} needs '{id_}' as a {_WORDS[kind]}, which it is not")
        around = self.scopes[id_]
        if scope[: len(around)] != around:
            inner = around[-1]
            part = "map" if inner.taken is None else "a branch of"
            raise wrong(
                self.dag,
                f"{where} needs step '{id_}', which is in {part} '{inner.step}' and is not there"
                " outside of it",
            )
        return around

    def _joined(self, id_: str, kind: type[Step], scope: Scope, where: str) -> Scope:
        """The scope of a map or decision that is over, as seen from `scope`."""
        around = self._visible(id_, kind, scope, where)
        is_open = kind is Each and self.ends.get(id_, 0) > len(self.seen)
        if is_open or any(within.step == id_ for within in scope):
            raise wrong(self.dag, f"{where} needs what '{id_}' gives before that is over")
        return around

    def _item(self, each: str, index: int, scope: Scope, where: str) -> None:
        step = self.seen.get(each)
        if not isinstance(step, Each) or Within(each) not in scope:
            raise wrong(self.dag, f"{where} needs an item of '{each}', which it is not within")
        if not 0 <= index < len(step.items):
            raise wrong(
                self.dag,
                f"{where} needs an item of list {index} of '{each}': it has {len(step.items)}",
            )


_WORDS: Mapping[type[Step], str] = {Call: "call", Decide: "decision", Each: "map"}
