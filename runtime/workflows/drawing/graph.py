"""A workflow as boxes and arrows: what Mermaid and SVG draw.

A fan-out is a box with boxes in it. An arrow joins two boxes that lie in the same one: where
data go into a fan-out or come out of it, the arrow ends or begins at its edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import (
    Choice,
    Collected,
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
    expressions_of,
)
from dsfn.runtime.workflows.drawing.words import Words, kind, notes, taken

OUTPUT = "output"

BoxKind = Literal["input", "call", "decide", "each", "output"]


@dataclass(frozen=True, slots=True)
class Box:
    """One box. `inside`: the key of the fan-out that it lies in; `step`: the id of its step."""

    key: str
    kind: BoxKind
    title: str
    notes: tuple[str, ...] = ()
    inside: str | None = None
    step: str | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one box to another, by their keys."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """Boxes in the workflow's order, a fan-out before what lies in it, and arrows, each once."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]

    def within(self, key: str | None) -> tuple[Box, ...]:
        """The boxes that lie in one, or in none."""
        return tuple(box for box in self.boxes if box.inside == key)


def graph_of(dag: Dag) -> Graph:
    """The boxes and arrows of a workflow."""
    return _Builder(dag).build()


class _Builder:
    def __init__(self, dag: Dag) -> None:
        self._dag = dag
        self._steps: Mapping[str, Step] = dag.by_id
        # The fan-outs around each box, outermost first.
        self._around = {_step_key(id): self._fan_outs(step) for id, step in self._steps.items()}
        self._arrows: dict[Arrow, None] = {}

    def build(self) -> Graph:
        for step in self._dag.steps:
            sources = [s for expr in expressions_of(step) for s in self._sources(expr)]
            if step.within is not None and step.within.taken is not None:
                if not any(self._is_in(key, step.within) for key, _ in sources):
                    branch = taken(step.within.taken)
                    sources.append((_step_key(step.within.step), branch))
            self._join(sources, _step_key(step.id))
        self._join(list(self._sources(self._dag.output)), OUTPUT)
        return Graph(tuple(self._boxes()), tuple(self._arrows))

    def _boxes(self) -> Iterator[Box]:
        words = Words(self._steps)
        for given in self._dag.inputs:
            yield Box(_input_key(given.name), "input", given.name, (kind(given),))
        for step in self._dag.steps:
            key = _step_key(step.id)
            around = self._around[key]
            inside = around[-1] if around else None
            yield Box(key, _kind(step), words.title(step), notes(step), inside, step.id)
        yield Box(OUTPUT, "output", "output")

    def _join(self, sources: list[tuple[str, str]], target: str) -> None:
        for source, label in sources:
            ends = self._lifted(source, target)
            if ends is not None:
                self._arrows[Arrow(*ends, label)] = None

    def _lifted(self, source: str, target: str) -> tuple[str, str] | None:
        """The two boxes, or the fan-outs around them, that lie in the same one."""
        left = (*self._around.get(source, ()), source)
        right = (*self._around.get(target, ()), target)
        for a, b in zip(left, right, strict=False):
            if a != b:
                return a, b
        return None

    def _sources(self, expr: Expr) -> Iterator[tuple[str, str]]:
        """The boxes that an expression comes from, with what their arrows are labelled."""
        match expr:
            case Input(name):
                yield _input_key(name), ""
            case Result(step):
                yield _step_key(step), ""
            case Item(each, _):
                yield _step_key(each), ""
            case ListOf(items):
                for item in items:
                    yield from self._sources(item)
            case ObjectOf(members):
                for _, of in members:
                    yield from self._sources(of)
            case Field(of, _):
                yield from self._sources(of)
            case Choice(decide, then, otherwise):
                yield from self._branch(Within(decide, True), then)
                yield from self._branch(Within(decide, False), otherwise)
            case Collected(each, of):
                yield _step_key(each), ""
                yield from self._sources(of)

    def _branch(self, branch: Within, expr: Expr) -> Iterator[tuple[str, str]]:
        """What a branch gives; the decision itself where no step of the branch is part of it."""
        sources = list(self._sources(expr))
        if not any(self._is_in(key, branch) for key, _ in sources):
            assert branch.taken is not None
            yield _step_key(branch.step), taken(branch.taken)
        yield from sources

    def _is_in(self, key: str, branch: Within) -> bool:
        """Whether a box belongs to a branch, or to one within it."""
        step = self._steps.get(key.removeprefix(_STEP)) if key.startswith(_STEP) else None
        while step is not None and step.within is not None:
            if step.within == branch:
                return True
            step = self._steps[step.within.step]
        return False

    def _fan_outs(self, step: Step) -> tuple[str, ...]:
        found: list[str] = []
        while step.within is not None:
            if step.within.taken is None:
                found.append(_step_key(step.within.step))
            step = self._steps[step.within.step]
        return tuple(reversed(found))


_STEP = "step "


def _step_key(id: str) -> str:
    return f"{_STEP}{id}"


def _input_key(name: str) -> str:
    return f"input {name}"


def _kind(step: Step) -> BoxKind:
    if isinstance(step, Decide):
        return "decide"
    return "each" if isinstance(step, Each) else "call"
