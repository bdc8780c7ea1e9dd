"""Whether a workflow's types fit: across every edge, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from difflib import get_close_matches

from dsfn.functions.errors import DefinitionError
from dsfn.functions.interface import Interface, ParameterInterface
from dsfn.functions.values import dataclass
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
    WorkflowInput,
)
from dsfn.functions.workflow.structure import check_structure, wrong
from dsfn.functions.workflow.types import (
    ListType,
    ObjectType,
    Type,
    constant_type,
    either,
    item_type,
    may_be_condition,
    member_type,
    misfit,
    misfit_of_result,
    result_type,
    value_type,
)


def check(dag: Dag, interfaces: Mapping[str, Interface]) -> Type:
    """The type of what a workflow gives, if all of it fits; `interfaces` are those of the
    functions that it calls, by name, and `dag` is resolved.

    Refused is only what can never be right. Raises `DefinitionError` that names the step, the
    argument and both types.
    """
    check_structure(dag)
    types = Types(dag, interfaces)
    for given in dag.inputs:
        types.check_input(given)
    for step in dag.steps:
        match step:
            case Call():
                types.check_call(step)
            case Decide():
                types.check_condition(step)
            case Each():
                types.check_lists(step)
    output = types.of(dag.output, "its output")
    types.check_output(output)
    return output


@dataclass(frozen=True, slots=True)
class Types:
    """The types of a workflow's expressions."""

    dag: Dag
    interfaces: Mapping[str, Interface]
    inputs: dict[str, Type] = field(default_factory=dict)
    results: dict[str, Type] = field(default_factory=dict)
    items: dict[tuple[str, int], Type] = field(default_factory=dict)

    def of(self, expr: Expr, where: str) -> Type:
        """The type of an expression. Raises `DefinitionError` naming `where` it is needed."""
        match expr:
            case Input(name):
                return self.inputs[name]
            case Result(step):
                return self.results[step]
            case Item(each, index):
                return self.items[each, index]
            case Constant():
                return constant_type(expr)
            case ListOf(items):
                types = tuple(self.of(item, where) for item in items)
                return ListType(either(types), types)
            case ObjectOf(members):
                return ObjectType(tuple((name, self.of(e, where)) for name, e in members))
            case Field(of, key):
                return self._member(of, key, where)
            case Choice(_, then, otherwise):
                return either((self.of(then, where), self.of(otherwise, where)))
            case Collected(_, of):
                return ListType(self.of(of, where))

    def check_input(self, given: WorkflowInput) -> None:
        """Raises unless the default of an input is one of its values, or null."""
        self.inputs[given.name] = value_type(given.kind, given.many, given.schema)
        if given.default is None or given.default == _NULL:
            return
        reason = misfit(constant_type(given.default), self.inputs[given.name])
        if reason is not None:
            raise wrong(self.dag, f"the default of input '{given.name}' does not fit: {reason}")

    def check_call(self, call: Call) -> None:
        """Raises unless the arguments of a call fit its function, and its fallback."""
        interface = self._interface(call.function, call.id)
        arguments = {
            name: self.of(expr, f"argument '{name}' of step '{call.id}'")
            for name, expr in call.arguments
        }
        self._check_arguments(call, call.function, interface, arguments)
        results = [self._result(call, call.function, interface)]
        fallback = call.options.fallback
        if fallback is not None and fallback.function is not None:
            other = self._interface(fallback.function, call.id)
            self._check_arguments(call, fallback.function, other, arguments)
            results.append(self._result(call, fallback.function, other))
        elif fallback is not None and fallback.value is not None:
            results.append(constant_type(fallback.value))
        self.results[call.id] = either(results)

    def check_condition(self, decide: Decide) -> None:
        """Raises unless a condition can be true or false."""
        type_ = self.of(decide.condition, f"the condition of '{decide.id}'")
        if not may_be_condition(type_):
            raise wrong(
                self.dag, f"the condition of '{decide.id}' is {type_}; it must be JSON or Text"
            )

    def check_lists(self, each: Each) -> None:
        """Raises unless a map goes over lists."""
        for index, expr in enumerate(each.items):
            type_ = self.of(expr, f"map '{each.id}'")
            item = item_type(type_)
            if item is None:
                raise wrong(self.dag, f"map '{each.id}' goes over {type_}, which is not a list")
            self.items[each.id, index] = item

    def check_output(self, output: Type) -> None:
        """Raises unless what a workflow gives is what it declares to give."""
        result = self.dag.result
        if result is None:
            return
        declared = value_type(result.kind, result.many, result.schema)
        reason = misfit_of_result(output, declared)
        if reason is not None:
            raise wrong(
                self.dag,
                f"the result is declared as {declared} but is {output}"
                f"{_because(reason, output, declared)}",
            )

    def _member(self, of: Expr, key: str | int, where: str) -> Type:
        held = self.of(of, where)
        found = item_type(held, key) if isinstance(key, int) else member_type(held, key)
        if found is None:
            raise wrong(self.dag, f"{where} needs [{key!r}] of {held}, which has none")
        return found

    def _interface(self, function: str, step: str) -> Interface:
        if function not in self.interfaces:
            raise unknown_function(self.dag, function, step, self.interfaces)
        return self.interfaces[function]

    def _check_arguments(
        self, call: Call, function: str, interface: Interface, arguments: Mapping[str, Type]
    ) -> None:
        parameters = {p.name: p for p in interface.parameters}
        for name, type_ in arguments.items():
            if name not in parameters:
                raise wrong(
                    self.dag,
                    f"step '{call.id}' gives '{name}', which {function} does not take"
                    f"{_near(name, parameters)}; it takes {_listed(parameters)}",
                )
            self._check_argument(call, function, parameters[name], type_)
        missing = [p.name for p in interface.parameters if p.required and p.name not in arguments]
        if missing:
            raise wrong(
                self.dag,
                f"step '{call.id}' does not give {_listed(missing)}, which {function} needs",
            )

    def _check_argument(
        self, call: Call, function: str, parameter: ParameterInterface, given: Type
    ) -> None:
        takes = value_type(parameter.kind, False, parameter.schema)
        reason = misfit(given, takes)
        if reason is not None:
            of_step = f"step '{call.id}'" + (f" ({function})" if function != call.id else "")
            raise wrong(
                self.dag,
                f"argument '{parameter.name}' of {of_step} takes {takes} and cannot be given"
                f" {given}{_because(reason, given, takes)}",
            )

    def _result(self, call: Call, function: str, interface: Interface) -> Type:
        found = result_type(interface.result)
        if found is None:
            raise wrong(
                self.dag,
                f"step '{call.id}' calls {function}, which streams {interface.result.kind} parts;"
                " in a workflow a stream can be of JSON or Text",
            )
        return found


def unknown_function(dag: Dag, function: str, step: str, known: Iterable[str]) -> DefinitionError:
    """The error about a function that is not deployed."""
    near = _near(function, known)
    return wrong(dag, f"step '{step}' calls '{function}', which is not deployed{near}")


_NULL = Constant.of(None)


def _because(reason: str, given: Type, takes: Type) -> str:
    """The reason, where it says more than both types do."""
    return "" if reason == f"{given} is not {takes}" else f": {reason}"


def _near(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=3)
    return f" (is it {' or '.join(near)}?)" if near else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "nothing"
