"""YAML as values that know their line, within limits.

Scalars are those of YAML 1.2's core schema: `no` is a text and `12:30` not a number. Tags are
refused, so nothing is made but texts, numbers, booleans, nulls, lists and mappings.
Source: https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from dsfn.functions.errors import DefinitionError
from dsfn.functions.values import dataclass

MAX_YAML_BYTES = 256 << 10
MAX_YAML_DEPTH = 64
MAX_YAML_NODES = 20_000

_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {"true": True, "True": True, "TRUE": True} | {
    "false": False,
    "False": False,
    "FALSE": False,
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,300}", re.ASCII)
_OTHER_BASE = re.compile(r"0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_NO_JSON = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A value with the line at which it begins. `text`: a scalar as it was written.
    `count`: of nodes that it is made of, itself included."""

    file: str
    line: int
    value: Any
    text: str = ""
    count: int = 1

    def refuse(self, problem: str) -> NoReturn:
        """Raises `DefinitionError` that names the line."""
        raise self.error(problem)

    def error(self, problem: str) -> DefinitionError:
        """The error about this node."""
        return error_at(self.file, self.line, problem)

    @property
    def is_map(self) -> bool:
        """Whether it is a mapping."""
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self.value, list)

    def items(self, what: str) -> list[Node]:
        """The items of a list. Raises `DefinitionError` when it is none."""
        if not isinstance(self.value, list):
            self.refuse(f"{what} must be a list")
        return self.value

    def members(self, what: str, known: frozenset[str] | None = None) -> Mapping[str, Node]:
        """The members of a mapping, of which only `known` ones may be there, if that is given.
        Raises `DefinitionError`."""
        if not isinstance(self.value, dict):
            self.refuse(f"{what} must be a mapping")
        members: dict[str, Node] = self.value
        for name, node in members.items():
            if known is not None and name not in known:
                node.refuse(f"{what} has no '{name}'; it may have {', '.join(sorted(known))}")
        return members

    def string(self, what: str) -> str:
        """A text. Raises `DefinitionError` when it is none."""
        if not isinstance(self.value, str):
            self.refuse(f"{what} must be a text")
        return self.value

    def plain(self) -> Any:
        """The value without lines."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def scalars(self) -> Iterator[Node]:
        """All scalars that it is made of."""
        inner = self.value.values() if isinstance(self.value, dict) else self.value
        if self.is_map or self.is_list:
            for node in inner:
                yield from node.scalars()
        else:
            yield self


@contextmanager
def at(node: Node) -> Iterator[None]:
    """Gives a `DefinitionError` that knows no line that of a node."""
    try:
        yield
    except DefinitionError as error:
        if "line" in error.fields:
            raise
        raise node.error(error.message.removesuffix(".")) from error


def error_at(file: str, line: int, problem: str) -> DefinitionError:
    """The error about a line of a file."""
    return DefinitionError(f"{file}, line {line}: {problem}.", file=file, line=line)


def read_nodes(source: bytes, file: str) -> Node:
    """The one document of a YAML file. Raises `DefinitionError` that names the line."""
    import yaml

    if len(source) > MAX_YAML_BYTES:
        raise DefinitionError(f"{file} has more than {MAX_YAML_BYTES >> 10} KiB.", file=file)
    # libyaml's parser, where it was built in, is some twenty times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        events = yaml.parse(source.decode(), Loader=loader)
        return _Builder(file, events).document()
    except UnicodeDecodeError as error:
        raise DefinitionError(f"{file} is not UTF-8: {error.reason}.", file=file) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise error_at(file, mark.line + 1 if mark else 1, f"not YAML: {problem}") from error


class _Builder:
    """Makes nodes of the parser's events, which come one by one: limits hold before more is
    read."""

    def __init__(self, file: str, events: Iterator[Any]) -> None:
        self._file = file
        self._events = events
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def document(self) -> Node:
        """The node of the only document."""
        root: Node | None = None
        for event in self._events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent" and root is not None:
                self._refuse(event, "there is a second document; a file has one workflow")
            elif kind not in _AROUND:
                root = self._node(event, 0)
        return root or Node(self._file, 1, None)

    def _node(self, event: Any, depth: int) -> Node:
        self._count += 1
        if depth > MAX_YAML_DEPTH:
            self._refuse(event, f"nested deeper than {MAX_YAML_DEPTH} levels")
        if self._count > MAX_YAML_NODES:
            self._refuse(event, f"more than {MAX_YAML_NODES} values, those of aliases included")
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event)
        if event.tag not in (None, "!"):
            self._refuse(event, f"tags such as {event.tag} are not taken")
        if kind == "ScalarEvent":
            made = self._scalar(event)
        else:
            made = self._list(event, depth) if "Sequence" in kind else self._map(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = made
        return made

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self._anchors:
            self._refuse(event, f"there is no anchor &{event.anchor} before this")
        found = self._anchors[event.anchor]
        self._count += found.count - 1
        if self._count > MAX_YAML_NODES:
            self._refuse(event, f"more than {MAX_YAML_NODES} values, those of aliases included")
        return found

    def _scalar(self, event: Any) -> Node:
        is_plain = event.style in (None, "") and event.tag is None
        value = self._resolved(event) if is_plain else event.value
        return Node(self._file, _line(event), value, event.value)

    def _list(self, event: Any, depth: int) -> Node:
        items = []
        while type(inner := next(self._events)).__name__ != "SequenceEndEvent":
            items.append(self._node(inner, depth + 1))
        return Node(self._file, _line(event), items, count=1 + sum(i.count for i in items))

    def _map(self, event: Any, depth: int) -> Node:
        members: dict[str, Node] = {}
        while type(inner := next(self._events)).__name__ != "MappingEndEvent":
            key = self._node(inner, depth + 1)
            if not isinstance(key.value, str):
                key.refuse("a key must be a text; quote it")
            if key.value in members:
                key.refuse(f"'{key.value}' is there twice")
            members[key.value] = self._node(next(self._events), depth + 1)
        count = 1 + sum(node.count + 1 for node in members.values())
        return Node(self._file, _line(event), members, count=count)

    def _resolved(self, event: Any) -> Any:
        text: str = event.value
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        if _OTHER_BASE.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            return self._float(event, text)
        if _NO_JSON.fullmatch(text):
            self._refuse(event, f"{text} is a number that JSON lacks")
        return text

    def _float(self, event: Any, text: str) -> float:
        number = float(text)
        if number in (float("inf"), float("-inf")):
            self._refuse(event, "the number is too large")
        return number

    def _refuse(self, event: Any, problem: str) -> NoReturn:
        raise error_at(self._file, _line(event), problem)


_AROUND = ("StreamStartEvent", "DocumentStartEvent", "DocumentEndEvent", "StreamEndEvent")


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1
