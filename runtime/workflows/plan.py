"""A workflow as the engine needs it: what each step waits for, and what it opens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import (
    Choice,
    Collected,
    Dag,
    Decide,
    Each,
    Expr,
    Field,
    ListOf,
    ObjectOf,
    Result,
    Step,
    Within,
    expressions_of,
)

ROOT = ""
"""Stands for the `Each` around steps that are in none."""


@dataclass(frozen=True, slots=True)
class Node:
    """A step in its place.

    `each`: the innermost `Each` around it, `depth`: how many there are. `needs`: the steps that
    must have settled before it, each with its own depth. `opens`: the steps directly within it,
    of a `Decide` by branch, of an `Each` under None. `covers`: of a `Decide`, all steps that are
    in a branch and not in a further `Each`. `item_steps`: of an `Each`, how many steps settle
    for each item.
    """

    step: Step
    each: str
    depth: int
    needs: tuple[tuple[str, int], ...]
    opens: Mapping[bool | None, tuple[str, ...]]
    covers: Mapping[bool, tuple[str, ...]]
    item_steps: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The nodes of a workflow by step. `roots` are in no scope; `root_steps` are in no `Each`."""

    dag: Dag
    nodes: Mapping[str, Node]
    roots: tuple[str, ...]
    root_steps: int

    def depth(self, step: str) -> int:
        """How many `Each` there are around a step."""
        return self.nodes[step].depth


def plan_of(dag: Dag) -> Plan:
    """Finds out what the engine needs; linear in the workflow's size times its depth."""
    scopes = _Scopes(dag.by_id)
    directly: dict[Within | None, list[str]] = {}
    covered: dict[Within, list[str]] = {}
    settling: dict[str, int] = {ROOT: 0}
    for step in dag.steps:
        directly.setdefault(step.within, []).append(step.id)
        each = scopes.each_around(step)
        settling[each] = settling.get(each, 0) + 1
        for within in scopes.branches_around(step):
            covered.setdefault(within, []).append(step.id)
    nodes = {
        step.id: Node(
            step=step,
            each=scopes.each_around(step),
            depth=len(scopes.eaches(step)),
            needs=tuple((need, scopes.depth(need)) for need in _needs(step, scopes)),
            opens=_opened(step, directly),
            covers={b: tuple(covered.get(Within(step.id, b), ())) for b in (True, False)},
            item_steps=settling.get(step.id, 0) if isinstance(step, Each) else 0,
        )
        for step in dag.steps
    }
    return Plan(dag, nodes, tuple(directly.get(None, ())), settling[ROOT])


@dataclass(frozen=True, slots=True)
class _Scopes:
    """What is around each step."""

    by_id: Mapping[str, Step]

    def around(self, step: Step) -> Iterator[Within]:
        """The scopes around a step, innermost first."""
        within = step.within
        while within is not None:
            yield within
            within = self.by_id[within.step].within

    def eaches(self, step: Step) -> Sequence[str]:
        return [w.step for w in self.around(step) if w.taken is None]

    def depth(self, step: str) -> int:
        return len(self.eaches(self.by_id[step]))

    def each_around(self, step: Step) -> str:
        return next(iter(self.eaches(step)), ROOT)

    def branches_around(self, step: Step) -> Iterator[Within]:
        """The branches around a step up to the innermost `Each`."""
        for within in self.around(step):
            if within.taken is None:
                return
            yield within


def _opened(
    step: Step, directly: Mapping[Within | None, Sequence[str]]
) -> Mapping[bool | None, tuple[str, ...]]:
    kinds: tuple[bool | None, ...] = ()
    if isinstance(step, Decide):
        kinds = (True, False)
    elif isinstance(step, Each):
        kinds = (None,)
    return {kind: tuple(directly.get(Within(step.id, kind), ())) for kind in kinds}


def _needs(step: Step, scopes: _Scopes) -> Sequence[str]:
    needs: dict[str, None] = {}
    for expr in expressions_of(step):
        needs.update(dict.fromkeys(_named(expr, scopes, frozenset())))
    return tuple(needs)


def _named(expr: Expr, scopes: _Scopes, collected: frozenset[str]) -> Iterator[str]:
    """The steps that must have settled before `expr` can be evaluated.

    What lies inside an `Each` that is `collected` has settled when that `Each` has.
    """

    def needed(step: str) -> Iterator[str]:
        if collected.isdisjoint(scopes.eaches(scopes.by_id[step])):
            yield step

    match expr:
        case Result(step):
            yield from needed(step)
        case ListOf(items):
            for item in items:
                yield from _named(item, scopes, collected)
        case ObjectOf(members):
            for _, member in members:
                yield from _named(member, scopes, collected)
        case Field(of, _):
            yield from _named(of, scopes, collected)
        case Choice(decide, then, otherwise):
            yield from needed(decide)
            yield from _named(then, scopes, collected)
            yield from _named(otherwise, scopes, collected)
        case Collected(each, of):
            yield from needed(each)
            yield from _named(of, scopes, collected | {each})
