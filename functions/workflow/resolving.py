"""From a workflow as it was written to one that calls functions alone, by name.

Positional arguments of functions that were known by name alone ("0", "1") get the names of their
parameters, and a call of another workflow becomes that one's steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from dsfn.functions.interface import Interface
from dsfn.functions.workflow.checking import unknown_function
from dsfn.functions.workflow.dag import (
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
    StepOptions,
    Within,
)
from dsfn.functions.workflow.structure import check_structure, wrong


def resolve(
    dag: Dag, interfaces: Mapping[str, Interface], workflows: Mapping[str, Dag] | None = None
) -> Dag:
    """The workflow with every function and workflow that it calls found. `workflows` need not
    be resolved themselves.

    Raises `DefinitionError` for an unknown name, naming near ones, and for a workflow that calls
    itself.
    """
    return _resolved(dag, interfaces, workflows or {}, ())


def _resolved(
    dag: Dag,
    interfaces: Mapping[str, Interface],
    workflows: Mapping[str, Dag],
    around: tuple[str, ...],
) -> Dag:
    check_structure(dag)
    chain = (*around, dag.name)
    if dag.name in around:
        raise wrong(dag, f"the workflow calls itself ({' -> '.join(chain)})")
    steps: list[Step] = []
    outputs: dict[str, Expr] = {}
    for step in dag.steps:
        found = _rewritten(step, outputs)
        if not isinstance(found, Call):
            steps.append(found)
        elif found.function in interfaces:
            fallback = found.options.fallback
            if fallback is not None and fallback.function not in (None, *interfaces):
                raise unknown_function(dag, str(fallback.function), found.id, interfaces)
            steps.append(_named(dag, found, _parameters(interfaces[found.function])))
        elif found.function in workflows:
            inner = _resolved(workflows[found.function], interfaces, workflows, chain)
            inlined, outputs[found.id] = _inlined(dag, found, inner)
            steps += inlined
            if len(steps) > MAX_STEPS:
                raise wrong(
                    dag, f"there are more than {MAX_STEPS} steps with those of '{inner.name}'"
                )
        else:
            raise unknown_function(dag, found.function, found.id, [*interfaces, *workflows])
    output = _substituted(dag.output, lambda e: _result_of(e, outputs))
    resolved = replace(dag, steps=tuple(steps), output=output)
    check_structure(resolved)
    return resolved


def _parameters(interface: Interface) -> tuple[str, ...]:
    return tuple(p.name for p in interface.parameters)


def _named(dag: Dag, call: Call, parameters: tuple[str, ...]) -> Call:
    """The call with its positional arguments named."""
    named: dict[str, Expr] = {}
    for name, expr in call.arguments:
        real = name
        if name.isdigit():
            if int(name) >= len(parameters):
                raise wrong(
                    dag,
                    f"step '{call.id}' gives {call.function} {int(name) + 1} arguments or more;"
                    f" it takes {len(parameters)}",
                )
            real = parameters[int(name)]
        if real in named:
            raise wrong(dag, f"step '{call.id}' gives the argument '{real}' twice")
        named[real] = expr
    return replace(call, arguments=tuple(named.items()))


def _inlined(dag: Dag, call: Call, inner: Dag) -> tuple[list[Step], Expr]:
    """The steps of `inner` in place of the call, and what the call gives."""
    if call.options != StepOptions():
        raise wrong(
            dag,
            f"step '{call.id}' calls a workflow; retries, timeout and the like are set on the"
            " steps of that",
        )
    given = dict(_named(dag, call, tuple(i.name for i in inner.inputs)).arguments)
    for name in given:
        if all(name != i.name for i in inner.inputs):
            raise wrong(dag, f"step '{call.id}' gives '{name}', which {inner.name} does not take")
    for input_ in inner.inputs:
        if input_.name not in given and input_.default is None:
            raise wrong(dag, f"step '{call.id}' does not give '{input_.name}'")
        given.setdefault(input_.name, input_.default or Constant.of(None))

    def moved(expr: Expr) -> Expr:
        return given[expr.name] if isinstance(expr, Input) else _prefixed(expr, call.id)

    steps = [_moved(step, call, moved) for step in inner.steps]
    return steps, _substituted(inner.output, moved)


def _moved(step: Step, call: Call, moved: Callable[[Expr], Expr]) -> Step:
    within = step.within
    inside = call.within if within is None else Within(f"{call.id}.{within.step}", within.taken)
    return replace(_mapped(step, moved), id=f"{call.id}.{step.id}", within=inside)


def _rewritten(step: Step, outputs: Mapping[str, Expr]) -> Step:
    return _mapped(step, lambda e: _result_of(e, outputs)) if outputs else step


def _result_of(expr: Expr, outputs: Mapping[str, Expr]) -> Expr:
    return outputs.get(expr.step, expr) if isinstance(expr, Result) else expr


def _mapped(step: Step, change: Callable[[Expr], Expr]) -> Step:
    match step:
        case Call():
            arguments = tuple((name, _substituted(e, change)) for name, e in step.arguments)
            return replace(step, arguments=arguments)
        case Decide():
            return replace(step, condition=_substituted(step.condition, change))
        case Each():
            return replace(step, items=tuple(_substituted(e, change) for e in step.items))


def _substituted(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """The expression with its leaves, and what its other parts name, changed."""
    match expr:
        case ListOf(items):
            return ListOf(tuple(_substituted(e, change) for e in items))
        case ObjectOf(members):
            return ObjectOf(tuple((name, _substituted(e, change)) for name, e in members))
        case Field(of, key):
            return Field(_substituted(of, change), key)
        case Choice(_, then, otherwise):
            around = change(expr)
            assert isinstance(around, Choice)
            return Choice(
                around.decide, _substituted(then, change), _substituted(otherwise, change)
            )
        case Collected(_, of):
            outside = change(expr)
            assert isinstance(outside, Collected)
            return Collected(outside.each, _substituted(of, change))
    return change(expr)


def _prefixed(expr: Expr, prefix: str) -> Expr:
    """The expression with the step that it names itself moved under `prefix`."""
    match expr:
        case Result(step):
            return Result(f"{prefix}.{step}")
        case Item(each, index):
            return Item(f"{prefix}.{each}", index)
        case Choice(decide, then, otherwise):
            return Choice(f"{prefix}.{decide}", then, otherwise)
        case Collected(each, of):
            return Collected(f"{prefix}.{each}", of)
    return expr
