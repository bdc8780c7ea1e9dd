"""The steps of a workflow in YAML: calls, maps, decisions, and the values that they pass on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import NoReturn, cast

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import (
    DEFAULT_PARALLEL,
    Call,
    Choice,
    Collected,
    Constant,
    Decide,
    Each,
    Expr,
    Fallback,
    Input,
    Item,
    ListOf,
    ObjectOf,
    Result,
    Step,
    StepOptions,
    Within,
)
from dsfn.functions.workflow.settings import (
    StepWords,
    check_name,
    check_parallel,
    step_settings,
)
from dsfn.functions.workflow.yaml_nodes import Node, at
from dsfn.functions.workflow.yaml_references import fields, name_in

_OPTIONS = frozenset(
    {"retries", "backoff_policy", "backoff_delay", "timeout", "cache", "budget", "fallback"}
)
_CALL = _OPTIONS | {"call", "with"}
_EACH = frozenset({"each", "parallel"})
_MAP = _EACH | {"steps", "output"}
_WHEN = frozenset({"when", "then", "otherwise"})
_BLOCK = frozenset({"steps", "output"})
_FALLBACK = frozenset({"call", "value"})

Known = Mapping[str, Expr]


def read_steps(steps: Node, output: Node, inputs: Iterable[str]) -> tuple[tuple[Step, ...], Expr]:
    """The steps of a workflow in an order in which they can be run, and what it gives.

    Raises `DefinitionError` with a line.
    """
    reader = _Reader([], dict(_keys_of(steps)), set())
    reader.taken.update(reader.keys)
    known = reader.block(steps, {name: Input(name) for name in inputs}, None)
    return tuple(reader.steps), reader.value(output, known)


def _keys_of(steps: Node) -> Iterator[tuple[str, Node]]:
    """Every step with a name, those within others included. Raises for a name that is there
    twice."""
    seen: set[str] = set()
    for name, node in _named_steps(steps):
        if name in seen:
            node.refuse(f"there are two steps of the name '{name}'")
        seen.add(name)
        yield name, node


def _named_steps(block: Node) -> Iterator[tuple[str, Node]]:
    for name, node in block.members("steps").items():
        yield name, node
        yield from _steps_inside(node)


def _steps_inside(node: Node) -> Iterator[tuple[str, Node]]:
    if not node.is_map:
        return
    if "steps" in node.value:
        yield from _named_steps(node.value["steps"])
    for branch in ("then", "otherwise"):
        if branch in node.value and "when" in node.value:
            yield from _steps_inside(node.value[branch])


@dataclass(frozen=True, slots=True)
class _Reader:
    """Notes steps in order. `keys`: where every named step is; `taken`: ids that are in use."""

    steps: list[Step]
    keys: Mapping[str, Node]
    taken: set[str]

    def block(self, node: Node, known: Known, within: Within | None) -> Known:
        """The steps of a mapping; what is known after them."""
        members = node.members("steps")
        for name, step in members.items():
            with at(step):
                check_name("The name of a step", name)
            if name in known:
                step.refuse(f"'{name}' is the name of something else already; take another")
        now = dict(known)
        for name in in_order(members):
            now[name] = self.step(name, members[name], now, within)
        return now

    def step(self, id_: str, node: Node, known: Known, within: Within | None) -> Expr:
        """One step; what it gives."""
        words = node.members(f"step '{id_}'")
        if "when" in words:
            return self.decide(id_, node, known, within)
        if "call" in words and "each" in words:
            each = self.free(f"map-{id_}")
            inside = self.each(each, node, known, within, _CALL | _EACH)
            self.call(id_, node, inside, Within(each))
            return Collected(each, Result(id_))
        if "call" in words:
            node.members(f"step '{id_}'", _CALL)
            return self.call(id_, node, known, within)
        if "each" in words:
            inside = self.each(id_, node, known, within, _MAP)
            return Collected(id_, self.block_value(node, inside, Within(id_)))
        node.refuse(f"step '{id_}' needs 'call', 'each' or 'when'")

    def call(self, id_: str, node: Node, known: Known, within: Within | None) -> Expr:
        words = node.members(f"step '{id_}'")
        function = words["call"].string("call")
        with at(words["call"]):
            check_name("The name of a function", function)
        given = words["with"].members("with") if "with" in words else {}
        arguments = tuple((name, self.value(value, known)) for name, value in given.items())
        self.steps.append(Call(id_, function, arguments, within, _step_options(words)))
        return Result(id_)

    def each(
        self, id_: str, node: Node, known: Known, within: Within | None, words: frozenset[str]
    ) -> Known:
        """A map; what is known within it."""
        members = node.members(f"step '{id_}'", words)
        lists = members["each"].members("each, such as {photo: $photos},")
        if not lists:
            members["each"].refuse("each needs a name for the items and a list")
        parallel = members["parallel"].value if "parallel" in members else DEFAULT_PARALLEL
        with at(members.get("parallel", node)):
            check_parallel(parallel)
        exprs = tuple(self.value(value, known) for value in lists.values())
        self.steps.append(Each(id_, exprs, within, parallel))
        for name, value in lists.items():
            if name in known or name in self.keys:
                value.refuse(f"'{name}' is the name of something else already; take another")
        return {**known, **{name: Item(id_, i) for i, name in enumerate(lists)}}

    def decide(self, id_: str, node: Node, known: Known, within: Within | None) -> Expr:
        words = node.members(f"step '{id_}'", _WHEN)
        if "then" not in words:
            node.refuse(f"step '{id_}' needs 'then'")
        self.steps.append(Decide(id_, self.value(words["when"], known), within))
        then = self.branch(words["then"], known, Within(id_, True))
        otherwise: Expr = Constant.of(None)
        if "otherwise" in words:
            otherwise = self.branch(words["otherwise"], known, Within(id_, False))
        return Choice(id_, then, otherwise)

    def branch(self, node: Node, known: Known, within: Within) -> Expr:
        """A branch: steps with an output, a call alone, or a value."""
        if node.is_map and "steps" in node.value:
            node.members("a branch", _BLOCK)
            return self.block_value(node, known, within)
        if node.is_map and "call" in node.value:
            id_ = self.free(node.value["call"].string("call"))
            return self.step(id_, node, known, within)
        return self.value(node, known)

    def block_value(self, node: Node, known: Known, within: Within) -> Expr:
        words = node.members("a part of the workflow")
        for needed in ("steps", "output"):
            if needed not in words:
                node.refuse(f"steps of their own need '{needed}'")
        return self.value(words["output"], self.block(words["steps"], known, within))

    def value(self, node: Node, known: Known) -> Expr:
        """A value: a reference, or a constant, which may have references in it."""
        if all(name_in(scalar) is None for scalar in node.scalars()):
            return Constant.of(_unescaped(node))
        if node.is_map:
            members = node.members("a value").items()
            return ObjectOf(tuple((name, self.value(value, known)) for name, value in members))
        if node.is_list:
            return ListOf(tuple(self.value(item, known) for item in node.value))
        name = name_in(node)
        if name is None or name not in known:
            self.unknown(node, str(name), known)
        return fields(node, known[name])

    def unknown(self, node: Node, name: str, known: Known) -> NoReturn:
        if name in self.keys:
            node.refuse(
                f"step '{name}' (line {self.keys[name].line}) is in a map or branch and is not"
                " there outside of it; give it as the output of that"
            )
        near = get_close_matches(name, list(known), n=3)
        shown = f" (is it {' or '.join(f'${n}' for n in near)}?)" if near else ""
        node.refuse(f"there is no ${name} here{shown}; a text that begins with $ is written $$")

    def free(self, usual: str) -> str:
        """An id that is not taken, numbered as in tracing."""
        id_, number = usual, 1
        while id_ in self.taken:
            number += 1
            id_ = f"{usual}-{number}"
        self.taken.add(id_)
        return id_


def in_order(steps: Mapping[str, Node]) -> list[str]:
    """The names of a block's steps, each after those that it needs, else as they were written.

    Raises `DefinitionError` for steps that need each other.
    """
    needs = {
        name: {found for scalar in node.scalars() if (found := name_in(scalar)) in steps}
        for name, node in steps.items()
    }
    order: list[str] = []
    waiting = list(steps)
    while waiting:
        ready = next((name for name in waiting if needs[name] <= set(order)), None)
        if ready is None:
            circle = _circle(needs, waiting[0], set(order))
            steps[circle[0]].refuse(f"steps need each other: {' -> '.join(circle)}")
        order.append(ready)
        waiting.remove(ready)
    return order


def _circle(needs: Mapping[str, set[str | None]], start: str, done: set[str]) -> Sequence[str]:
    path = [start]
    while True:
        following = min(str(name) for name in needs[path[-1]] if name not in done)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)


def _step_options(words: Mapping[str, Node]) -> StepOptions:
    given = {name: node.plain() for name, node in words.items() if name in _OPTIONS}
    if "budget" in words:
        given["budget"] = words["budget"].text  # 0.05 as it was written, not as a float
    fallback = _fallback(words["fallback"]) if "fallback" in words else None
    for name in given.keys() - {"fallback"}:
        # One after the other, for the line of the one at fault.
        with at(words[name]):
            step_settings(cast("StepWords", {name: given[name]}), None)
    return step_settings(cast("StepWords", given), fallback).options


def _fallback(node: Node) -> Fallback:
    words = node.members("a fallback", _FALLBACK)
    if len(words) != 1:
        node.refuse("a fallback is either {call: FUNCTION} or {value: ...}")
    if "value" in words:
        return Fallback(value=Constant.of(_unescaped(words["value"])))
    return Fallback(function=words["call"].string("call"))


def _unescaped(node: Node) -> object:
    if node.is_map:
        return {name: _unescaped(value) for name, value in node.value.items()}
    if node.is_list:
        return [_unescaped(item) for item in node.value]
    text = node.value
    return text[1:] if isinstance(text, str) and text.startswith("$$") else text
