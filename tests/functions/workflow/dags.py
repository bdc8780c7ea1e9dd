"""Random workflows over a few pure functions, what they are run on, and what they come to.

Every workflow of `dags()` fits the functions' types and ends well; `interpret` says with what.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from dsfn.functions.interface import Interface, ParameterInterface, ResultInterface
from dsfn.functions.workflow.dag import (
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
    StepOptions,
    Within,
    WorkflowInput,
    WorkflowOptions,
)

INTEGER = {"type": "integer"}
BOOLEAN = {"type": "boolean"}
INTEGERS = {"type": "array", "items": INTEGER}
HALVES = {"type": "object", "properties": {"half": INTEGER, "odd": BOOLEAN}, "required": ["half"]}

MODULUS = 1_000_003


@dataclass(frozen=True, slots=True)
class Pure:
    """A function of these workflows: what it does, what it takes and gives (by type)."""

    run: Callable[..., Any]
    takes: Mapping[str, str]
    gives: str


PURE: Mapping[str, Pure] = {
    "add": Pure(lambda a, b: (a + b) % MODULUS, {"a": "int", "b": "int"}, "int"),
    "double": Pure(lambda n: 2 * n % MODULUS, {"n": "int"}, "int"),
    "is-odd": Pure(lambda n: n % 2 == 1, {"n": "int"}, "bool"),
    "spread": Pure(lambda n: list(range(n % 4)), {"n": "int"}, "ints"),
    "total": Pure(lambda ns: sum(ns) % MODULUS, {"ns": "ints"}, "int"),
    "halve": Pure(lambda n: {"half": n // 2, "odd": n % 2 == 1}, {"n": "int"}, "halves"),
}
SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "int": INTEGER,
    "bool": BOOLEAN,
    "ints": INTEGERS,
    "halves": HALVES,
}
INTERFACES: Mapping[str, Interface] = {
    name: Interface(
        "",
        tuple(ParameterInterface(p, "json", True, SCHEMAS[t]) for p, t in pure.takes.items()),
        ResultInterface("json", schema=SCHEMAS[pure.gives]),
    )
    for name, pure in PURE.items()
}
INPUTS = (
    WorkflowInput("n", "json", schema=INTEGER),
    WorkflowInput("flag", "json", schema=BOOLEAN),
    WorkflowInput("ns", "json", many=True, schema=INTEGER),
    WorkflowInput("m", "json", schema=INTEGER, required=False, default=Constant.of(7)),
)
CONSTANTS: Mapping[str, SearchStrategy[Any]] = {
    "int": st.integers(0, 9),
    "bool": st.booleans(),
    "ints": st.lists(st.integers(0, 9), max_size=3),
}


def inputs() -> SearchStrategy[dict[str, Any]]:
    """What a workflow of `dags()` can be run on; `m` is there or not."""
    numbers = st.integers(0, 9)
    lists = st.lists(numbers, max_size=3)
    return st.fixed_dictionaries(
        {"n": numbers, "flag": st.booleans(), "ns": lists}, optional={"m": numbers}
    )


@st.composite
def dags(
    draw: DrawFn, max_steps: int = 10, options: SearchStrategy[StepOptions] | None = None
) -> Dag:
    """A workflow of at most about `max_steps` steps, nested at most three deep."""
    plain = st.just(StepOptions()) if options is None else options
    made = _Made(draw, plain, left=draw(st.integers(1, max_steps)))
    known: Known = {"int": [Input("n"), Input("m")], "bool": [Input("flag")], "ints": [Input("ns")]}
    made.block(known, ())
    names = {f"o{i}": made.any(known) for i in range(draw(st.integers(1, 3)))}
    output = ObjectOf(tuple(names.items())) if draw(st.booleans()) else ListOf((*names.values(),))
    return Dag(WorkflowOptions("random"), "Random.", INPUTS, tuple(made.steps), output)


Known = dict[str, list[Expr]]
END = st.booleans()


@dataclass(slots=True)
class _Made:
    """A workflow that is being made; `left` is how many steps it may still get."""

    draw: DrawFn
    options: SearchStrategy[StepOptions]
    left: int
    steps: list[Step] = field(default_factory=list)

    def block(self, known: Known, scope: tuple[Within, ...]) -> None:
        """Steps of one scope; what they give is `known` from then on."""
        while self.left > 0:
            self.left -= 1
            kinds = ["call", "call", "decide", "each"] if len(scope) < 3 else ["call"]
            getattr(self, self.draw(st.sampled_from(kinds)))(known, scope)
            if self.draw(END) and scope:
                return

    def call(self, known: Known, scope: tuple[Within, ...]) -> None:
        name = self.draw(st.sampled_from(sorted(PURE)))
        arguments = tuple((p, self.value(known, t)) for p, t in PURE[name].takes.items())
        step = Call(self.id(name), name, arguments, _last(scope), self.draw(self.options))
        self.steps.append(step)
        result, gives = Result(step.id), PURE[name].gives
        if gives == "halves":
            known["int"].append(Field(result, "half"))
            known["bool"].append(Field(result, "odd"))
        else:
            known[gives].append(result)

    def decide(self, known: Known, scope: tuple[Within, ...]) -> None:
        condition = self.value(known, self.draw(st.sampled_from(["bool", "int", "ints"])))
        step = Decide(self.id("when"), condition, _last(scope))
        self.steps.append(step)
        kind = self.draw(st.sampled_from(["int", "ints"]))
        branches = []
        for taken in (True, False):
            inside = {name: list(exprs) for name, exprs in known.items()}
            if self.draw(st.integers(0, 3)):
                self.block(inside, (*scope, Within(step.id, taken)))
            branches.append(self.newest(inside, kind))
        known[kind].append(Choice(step.id, *branches))

    def each(self, known: Known, scope: tuple[Within, ...]) -> None:
        items = self.value(known, "ints")
        lists = (items,) * self.draw(st.integers(1, 2))
        parallel = self.draw(st.sampled_from([1, 2, 16]))
        step = Each(self.id("map"), lists, _last(scope), parallel)
        self.steps.append(step)
        inside = {name: list(exprs) for name, exprs in known.items()}
        inside["int"] += [Item(step.id, i) for i in range(len(lists))]
        if self.draw(st.integers(0, 3)):
            self.block(inside, (*scope, Within(step.id)))
        known["ints"].append(Collected(step.id, self.newest(inside, "int")))

    def id(self, name: str) -> str:
        return f"{name}-{len(self.steps)}"

    def value(self, known: Known, kind: str) -> Expr:
        """Something of a type: known already, constant, or put together."""
        if self.draw(st.integers(0, 4)) == 0:
            return Constant.of(self.draw(CONSTANTS[kind]))
        if kind == "ints" and self.draw(st.integers(0, 4)) == 0:
            return ListOf(tuple(self.newest(known, "int") for _ in range(2)))
        return self.newest(known, kind)

    def newest(self, known: Known, kind: str) -> Expr:
        """Of what is known, what came last more often than not: chains grow long."""
        exprs = known[kind]
        return exprs[-1] if self.draw(st.booleans()) else self.draw(st.sampled_from(exprs))

    def any(self, known: Known) -> Expr:
        return self.newest(known, self.draw(st.sampled_from(sorted(known))))


def _last(scope: tuple[Within, ...]) -> Within | None:
    return scope[-1] if scope else None


@dataclass(slots=True)
class Interpreted:
    """What a workflow came to, and the calls that it made: (step, path, arguments)."""

    output: Any
    calls: list[tuple[str, tuple[int, ...], Mapping[str, Any]]]


def interpret(
    dag: Dag,
    given: Mapping[str, Any],
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> Interpreted:
    """Runs a workflow of JSON values step by step, in order, in the simplest way."""
    named = functions or {name: pure.run for name, pure in PURE.items()}
    defaults = {i.name: i.default for i in dag.inputs if i.default is not None}
    values = {name: json.loads(default.text) for name, default in defaults.items()}
    run = _Run(dag, named, {**values, **given}, {}, [])
    run.steps_within(None, ())
    return Interpreted(run.value(dag.output, ()), run.calls)


@dataclass(slots=True)
class _Run:
    dag: Dag
    functions: Mapping[str, Callable[..., Any]]
    inputs: Mapping[str, Any]
    done: dict[tuple[str, tuple[int, ...]], Any]
    calls: list[tuple[str, tuple[int, ...], Mapping[str, Any]]]

    def steps_within(self, within: Within | None, path: tuple[int, ...]) -> None:
        for step in self.dag.steps:
            if step.within == within:
                self.step(step, path)

    def step(self, step: Step, path: tuple[int, ...]) -> None:
        match step:
            case Call():
                arguments = {name: self.value(e, path) for name, e in step.arguments}
                self.calls.append((step.id, path, arguments))
                self.done[step.id, path] = self.functions[step.function](**arguments)
            case Decide():
                taken = bool(self.value(step.condition, path))
                self.done[step.id, path] = taken
                self.steps_within(Within(step.id, taken), path)
            case Each():
                lists = [self.value(e, path) for e in step.items]
                assert len({len(items) for items in lists}) == 1
                self.done[step.id, path] = lists
                for index in range(len(lists[0])):
                    self.steps_within(Within(step.id), (*path, index))

    def value(self, expr: Expr, path: tuple[int, ...]) -> Any:
        match expr:
            case Input(name):
                return self.inputs[name]
            case Result(step):
                return self.done[step, path[: self.depth(step)]]
            case Item(each, index):
                depth = self.depth(each)
                return self.done[each, path[:depth]][index][path[depth]]
            case Constant(text):
                return json.loads(text)
            case ListOf(items):
                return [self.value(e, path) for e in items]
            case ObjectOf(members):
                return {name: self.value(e, path) for name, e in members}
            case Field(of, key):
                return self.value(of, path)[key]
            case Choice(decide, then, otherwise):
                taken = self.done[decide, path[: self.depth(decide)]]
                return self.value(then if taken else otherwise, path)
            case Collected(each, of):
                around = path[: self.depth(each)]
                lists = self.done[each, around]
                return [self.value(of, (*around, i)) for i in range(len(lists[0]))]

    def depth(self, step: str) -> int:
        """How many fan-outs are around a step."""
        depth, within = 0, self.dag.by_id[step].within
        while within is not None:
            depth += within.taken is None
            within = self.dag.by_id[within.step].within
        return depth
