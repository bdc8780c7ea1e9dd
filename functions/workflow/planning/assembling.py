"""From the value that is the output back to the workflow that makes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from functools import reduce

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import (
    Call,
    Collected,
    Dag,
    Each,
    Expr,
    Field,
    Input,
    Item,
    Result,
    Step,
    Within,
    WorkflowInput,
    WorkflowOptions,
    WorkflowResult,
)
from dsfn.functions.workflow.planning.catalogue import Catalogue
from dsfn.functions.workflow.planning.model import ASSUMED_ITEMS, PlannedStep
from dsfn.functions.workflow.planning.types import kind_of
from dsfn.functions.workflow.planning.values import Binding, Map, Value


@dataclass(frozen=True, slots=True)
class Assembled:
    """A workflow with its calls as planned steps, in order, and what a run comes to."""

    dag: Dag
    steps: tuple[PlannedStep, ...]
    latency_us: int
    cost_nano: int


def assemble(
    catalogue: Catalogue, values: Sequence[Value], goal: Value, name: str, description: str
) -> Assembled:
    """The workflow called `name` that makes `goal`."""
    builder = _Builder(catalogue, values)
    builder.add(goal)
    output = _collected(Result(builder.ids[goal.number]), [builder.eaches[m] for m in goal.maps])
    inputs = tuple(
        WorkflowInput(given.name, kind_of(given.flow.media), many=given.flow.many)
        for given in catalogue.given
    )
    wanted = catalogue.request.output
    dag = Dag(
        options=WorkflowOptions(name),
        description=description,
        inputs=inputs,
        steps=tuple(builder.steps),
        output=output,
        result=WorkflowResult(kind_of(wanted.media), many=wanted.many),
    )
    made = [values[number] for number in builder.ids]
    return Assembled(
        dag=dag,
        steps=tuple(builder.planned(value) for value in made),
        latency_us=goal.ready_us,
        cost_nano=sum(value.cost_nano for value in made),
    )


@dataclass(eq=False)
class _Builder:
    """Adds the steps that a value needs before its own."""

    catalogue: Catalogue
    values: Sequence[Value]
    steps: list[Step] = field(default_factory=list)
    ids: dict[int, str] = field(default_factory=dict)
    eaches: dict[Map, str] = field(default_factory=dict)

    def add(self, value: Value) -> None:
        if value.function is None or value.number in self.ids:
            return
        for binding in value.bindings:
            self.add(self.values[binding.value])
        for depth in range(len(value.maps)):
            self._add_each(value.maps[: depth + 1])
        function = self.catalogue.usable[value.function].name
        step = self._unused(function)
        arguments = tuple((b.parameter, self._argument(b, value)) for b in value.bindings)
        self.steps.append(Call(step, function, arguments, self._within(value.maps)))
        self.ids[value.number] = step

    def planned(self, value: Value) -> PlannedStep:
        assert value.function is not None
        offer = self.catalogue.usable[value.function].offer
        runs = ASSUMED_ITEMS ** len(value.maps)
        step = self.ids[value.number]
        return PlannedStep(step, offer.name, offer.revision, runs, offer.estimate)

    def _add_each(self, maps: tuple[Map, ...]) -> None:
        source, member = maps[-1]
        if maps[-1] not in self.eaches:
            self.add(self.values[source])
            step = self._unused("each")
            items = _member(self._whole(source), member)
            self.steps.append(Each(step, (items,), self._within(maps[:-1])))
            self.eaches[maps[-1]] = step

    def _argument(self, binding: Binding, taker: Value) -> Expr:
        way, value = binding.way, self.values[binding.value]
        if way.mapped:
            return _member(Item(self.eaches[value.number, way.member]), way.inner)
        around = value.maps[len(value.maps) - way.collected :]
        whole = _collected(self._whole(binding.value), [self.eaches[m] for m in around])
        return _member(whole, way.member)

    def _whole(self, number: int) -> Expr:
        if self.values[number].function is None:
            return Input(self.catalogue.given[number].name)
        return Result(self.ids[number])

    def _within(self, maps: tuple[Map, ...]) -> Within | None:
        return Within(self.eaches[maps[-1]]) if maps else None

    def _unused(self, name: str) -> str:
        taken = {step.id for step in self.steps}
        number, found = 1, name
        while found in taken:
            number += 1
            found = f"{name}-{number}"
        return found


def _member(of: Expr, name: str | None) -> Expr:
    return of if name is None else Field(of, name)


def _collected(of: Expr, eaches: Sequence[str]) -> Expr:
    """Joined into lists, `eaches` being the maps around it, outermost first."""
    return reduce(lambda inner, each: Collected(each, inner), reversed(eaches), of)
