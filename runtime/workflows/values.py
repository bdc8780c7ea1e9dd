"""What an expression comes to, from what is stored of a run. Nothing is called here."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

from dsfn.functions.errors import InvalidInput
from dsfn.functions.interface import JSON_CONTENT_TYPE
from dsfn.functions.media import is_json, parse_content_type
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import (
    MAX_ITEMS,
    Choice,
    Collected,
    Constant,
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
from dsfn.runtime.workflows.model import Blob, Path, Value
from dsfn.runtime.workflows.plan import Plan
from dsfn.runtime.workflows.recent import Recent

Lists = tuple[Sequence[Value], ...]
Load = Callable[[Blob], bytes]

# What a value in a list costs beside its bytes.
_BLOB_BYTES = 200
# What JSON takes once it is parsed, for each of its bytes.
_PARSED_FACTOR = 8
_scan = json.JSONDecoder().raw_decode
_SPACE = " \t\n\r"


class NotAtHand(Exception):
    """Something must be read, or done, that would hold up the event loop."""


class Outcomes(Protocol):
    """The stored results of a run."""

    def result(self, step: str, path: Path) -> Blob:
        """What a call gave."""
        ...

    def outcome(self, step: str, path: Path) -> int:
        """The branch that a `Decide` took, the number of items of an `Each`."""
        ...


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Evaluates the expressions of one run.

    `load` gives the bytes of a blob; where it raises `NotAtHand`, so does this, as it does for a
    join of more than `max_joined` items. `memo` keeps what took long to read: lists that an
    `Each` fans out over, large JSON.
    """

    run: str
    plan: Plan
    inputs: Mapping[str, Value]
    outcomes: Outcomes
    load: Load
    memo: Recent[Hashable, Any]
    max_joined: int | None = None

    def value(self, expr: Expr, path: Path) -> Value:
        """What `expr` comes to for the items of `path`. Raises `InvalidInput` when a member
        is not there, `NotFound` for a blob that is gone."""
        match expr:
            case Result(step):
                return self.outcomes.result(step, path[: self.plan.depth(step)])
            case Input(name):
                return self._input(name)
            case Item(each, index):
                depth = self.plan.depth(each)
                return self.fanned(each, path[:depth])[index][path[depth]]
            case Constant(text):
                return json_blob(text.encode())
            case ListOf(items):
                return [self.value(item, path) for item in items]
            case ObjectOf(members):
                return {name: self.value(member, path) for name, member in members}
            case Field(of, key):
                return self._member(self.value(of, path), key)
            case Choice(decide, then, otherwise):
                taken = self.outcomes.outcome(decide, path[: self.plan.depth(decide)])
                return self.value(then if taken else otherwise, path)
            case Collected(each, of):
                return self._joined(each, of, path[: self.plan.depth(each)])

    def truth(self, expr: Expr, path: Path) -> bool:
        """Whether `expr` is true, as Python has it."""
        value = self.value(expr, path)
        if not isinstance(value, Blob):
            return len(value) > 0
        media, _ = parse_content_type(value.content_type)
        if is_json(media):
            return bool(self._parsed(value))
        return value.size_bytes > 0 if media.startswith("text/") else True

    def fanned(self, each: str, path: Path) -> Lists:
        """The lists that an `Each` fans out over. Raises `InvalidInput` unless they are lists of
        one length."""
        key = (self.run, each, path)
        known: Lists | None = self.memo.get(key)
        if known is not None:
            return known
        step = self.plan.nodes[each].step
        assert isinstance(step, Each)
        lists = tuple(self._list(self.value(expr, path)) for expr in step.items)
        if len({len(items) for items in lists}) > 1:
            lengths = ", ".join(str(len(items)) for items in lists)
            raise InvalidInput(f"The lists have different lengths: {lengths}.", field=each)
        self.memo.put(key, lists, sum(map(_size_of, lists)))
        return lists

    def _joined(self, each: str, of: Expr, path: Path) -> Sequence[Value]:
        count = self.outcomes.outcome(each, path)
        if self.max_joined is not None and count > self.max_joined:
            raise NotAtHand
        return [self.value(of, (*path, index)) for index in range(count)]

    def _input(self, name: str) -> Value:
        given = self.inputs.get(name)
        if given is not None:
            return given
        declared: WorkflowInput = next(i for i in self.plan.dag.inputs if i.name == name)
        return json_blob(declared.default.text.encode() if declared.default else b"null")

    def _member(self, value: Value, key: str | int) -> Value:
        try:
            if not isinstance(value, Blob):
                return value[key]  # type: ignore[index]  # a wrong kind of key is an error below
            return json_blob(_dumps(self._parsed(value)[key]))
        except (KeyError, IndexError, TypeError):
            missing = f"item {key}" if isinstance(key, int) else f"member {key!r}"
            raise InvalidInput(f"The value has no {missing}.", field=str(key)) from None

    def _list(self, value: Value) -> Sequence[Value]:
        if isinstance(value, Blob):
            if not is_json(parse_content_type(value.content_type)[0]):
                raise InvalidInput(f"A {value.content_type} is not a list.", field="items")
            return split(self.load(value))
        if isinstance(value, Mapping):
            raise InvalidInput("An object is not a list.", field="items")
        return value

    def _parsed(self, value: Blob) -> Any:
        if value.ref is None:
            return json.loads(value.inline or b"null")
        known = self.memo.get(value.ref)
        if known is None:
            known = json.loads(self.load(value))
            self.memo.put(value.ref, known, value.size_bytes * _PARSED_FACTOR)
        return known


def json_blob(data: bytes) -> Blob:
    """A JSON value."""
    return Blob(JSON_CONTENT_TYPE, len(data), data)


def split(data: bytes) -> list[Value]:
    """The elements of a JSON list, each with the bytes that it had. Raises `InvalidInput`, also
    for more than a map takes: of a million elements it need not read all."""
    text = data.decode().strip(_SPACE)
    if not text.startswith("["):
        raise InvalidInput("The value is not a list.", field="items")
    found: list[Value] = []
    try:
        at = _skip(text, 1)
        while text[at] != "]":
            end = _scan(text, at)[1]
            found.append(json_blob(text[at:end].encode()))
            if len(found) > MAX_ITEMS:
                raise too_many(f"more than {MAX_ITEMS}")
            at = _skip(text, end)
            if text[at] == ",":
                at = _skip(text, at + 1)
                if text[at] == "]":
                    raise ValueError("a comma before the end")
            elif text[at] != "]":
                raise ValueError("no comma between elements")
    except (ValueError, IndexError):
        raise InvalidInput("The list is not JSON.", field="items") from None
    return found


def too_many(count: int | str) -> InvalidInput:
    """The error of a map over more items than one takes."""
    return InvalidInput(
        f"There are {count} items, and a map takes {MAX_ITEMS} at most.",
        field="items",
        limit=MAX_ITEMS,
    )


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at


def _dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _size_of(items: Sequence[Value]) -> int:
    size = 0
    for item in items:
        if isinstance(item, Blob):
            size += _BLOB_BYTES + len(item.inline or b"")
        else:
            size += _size_of([*item.values()] if isinstance(item, Mapping) else item)
    return size
