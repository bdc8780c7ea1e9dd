"""The types of what flows, as small numbers: what fits where, and how it gets there.

Comparing JSON schemas is slow and a search asks the same again and again; each question is
answered once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from dsfn.functions.interface import CONTENT_TYPES, EVENT_CONTENT_TYPE, Kind, ParameterInterface
from dsfn.functions.media import is_json, parse_content_type
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.planning.schemas import element_of, members_of, plain, promises
from dsfn.functions.workflow.schemas import Schema
from dsfn.functions.workflow.types import JsonType, ListType, PartType, Type, misfit

# Maps in one another.
MAX_NESTING = 2

_STRING = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Way:
    """How a value becomes an argument.

    First its member `member`, if any; then, when `mapped`, each element of that, and of each its
    member `inner`, if any. `collected`: how many maps around the value are joined into lists.
    """

    member: str | None = None
    mapped: bool = False
    inner: str | None = None
    collected: int = 0


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of one type. `type` is the one that workflows are checked with; `schema` is
    None for a part and for JSON that only its giver knows, as for lists of either. `lists`: the
    lists in it, by member (None: it is one itself), with their elements."""

    type: Type
    kind: Kind
    schema: Mapping[str, Any] | None
    element: int | None
    members: Mapping[str, int]
    lists: tuple[tuple[str | None, int], ...]


def kind_of(media: str) -> Kind:
    """The kind of part, or JSON, that bytes of a content type are."""
    own = parse_content_type(media)[0]
    if own == EVENT_CONTENT_TYPE:
        return "event"
    if is_json(own):
        return "json"
    if own == CONTENT_TYPES["tensor"]:
        return "tensor"
    family = own.partition("/")[0]
    if family in ("text", "image", "audio", "video"):
        return family  # type: ignore[return-value]  # each of them is a kind
    return "file"


@dataclass(eq=False)
class Types:
    """Numbers for types, and what is known of each."""

    _numbers: dict[object, int] = field(default_factory=dict)
    _known: list[_Known] = field(default_factory=list)
    _lists: dict[int, int] = field(default_factory=dict)
    _fits: dict[tuple[int, int], bool] = field(default_factory=dict)
    _ways: dict[tuple[int, int, str], tuple[Way, ...]] = field(default_factory=dict)

    def of(self, kind: Kind, schema: Mapping[str, Any] | None) -> int:
        """The number of a kind, or of JSON of this schema: None for JSON that only its giver
        knows, which may go wherever JSON goes."""
        if kind != "json":
            return self._number(kind, PartType(kind))
        if schema is None:
            return self._number(kind, JsonType(Schema.of(None)))
        return self._json(plain(schema))

    def list_of(self, element: int) -> int:
        """The number of a list of this type."""
        if element not in self._lists:
            known = self._known[element]
            self._lists[element] = (
                self._number(("list", element), ListType(known.type), element)
                if known.schema is None
                else self._json({"type": "array", "items": known.schema})
            )
        return self._lists[element]

    def kind(self, number: int) -> Kind:
        """The kind of a type; a list is JSON, whatever it is of."""
        return self._known[number].kind

    def is_text(self, number: int) -> bool:
        """Whether it is text, or a JSON string."""
        schema = self._known[number].schema
        return schema.get("type") == "string" if schema else self.kind(number) == "text"

    def element(self, number: int) -> int | None:
        """The type of a list's elements; None for what is no list."""
        return self._known[number].element

    def members(self, number: int) -> Mapping[str, int]:
        """The types of the members that an object always has."""
        return self._known[number].members

    def describe(self, number: int) -> str:
        """A type in words: "image/*", "a JSON list"."""
        known = self._known[number]
        if known.kind != "json":
            return CONTENT_TYPES[known.kind]
        if known.schema is None and known.element is not None:
            return f"a list of {self.describe(known.element)}"
        word = str((known.schema or {}).get("type", ""))
        return {"": "JSON", "array": "a JSON list"}.get(word, f"a JSON {word}")

    def fits(self, source: int, target: int) -> bool:
        """Whether every value of one type may stand where the other is asked for."""
        key = (source, target)
        if key not in self._fits:
            self._fits[key] = source == target or self._compare(source, target)
        return self._fits[key]

    def ways(self, source: int, parameter: ParameterInterface, target: int) -> tuple[Way, ...]:
        """How a value can become this parameter's argument.

        As it is; or by a member that bears the parameter's name, or that is itself an object or
        a list such as the parameter takes; or each element of a list; or joined with those of
        the maps around it. A member that is a mere number or text goes by its name alone: else
        anything would flow anywhere.
        """
        key = (source, target, parameter.name)
        if key not in self._ways:
            self._ways[key] = tuple(self._find_ways(source, parameter.name, target))
        return self._ways[key]

    def _find_ways(self, source: int, name: str, target: int) -> list[Way]:
        found = [Way(member=m) for m in self._into(source, name, target)]
        if not found:
            found = [
                Way(member=listed, mapped=True, inner=inner)
                for listed, element in self._known[source].lists
                for inner in self._into(element, name, target)
                if listed is None or inner is not None or self._is_meant(listed, name, element)
            ]
        joined = source
        for count in range(1, MAX_NESTING + 1 if self._may_be_list(target) else 1):
            joined = self.list_of(joined)
            if self.fits(joined, target):
                found.append(Way(collected=count))
        return found

    def _into(self, source: int, name: str, target: int) -> list[str | None]:
        """The whole value (None), or else those of its members that fit a parameter."""
        if self.fits(source, target):
            return [None]
        return [
            member
            for member, own in self.members(source).items()
            if (member == name or (self._is_structure(own) and not self._is_anything(target)))
            and self.fits(own, target)
        ]

    def _is_meant(self, listed: str, name: str, element: int) -> bool:
        return self._is_structure(element) or listed in (f"{name}s", f"{name}es", name)

    def _is_structure(self, number: int) -> bool:
        return self.element(number) is not None or bool(self.members(number))

    def _may_be_list(self, number: int) -> bool:
        known = self._known[number]
        return known.element is not None or known.schema == {} or "anyOf" in (known.schema or {})

    def _is_anything(self, number: int) -> bool:
        return self._known[number].schema == {}

    def _compare(self, source: int, target: int) -> bool:
        """What may fit as a workflow is checked, and more: a plan is made of what is sure to. A
        file may hold anything, and JSON be anything, but a plan does not count on it."""
        given, taken = self._known[source], self._known[target]
        if given.kind == "file" != taken.kind:
            return False
        if given.schema is not None and taken.schema is not None:
            if not promises(given.schema, taken.schema):
                return False
        elif given.schema is not None and not self.is_text(source):
            return False
        return misfit(given.type, taken.type) is None

    def _json(self, schema: Mapping[str, Any]) -> int:
        text = json.dumps(schema, sort_keys=True, separators=(",", ":"))
        if text in self._numbers:
            return self._numbers[text]
        items = element_of(schema)
        element = None if items is None else self._json(items)
        members = {name: self._json(own) for name, own in members_of(schema).items()}
        return self._number(text, JsonType(Schema.of(schema)), element, schema, members)

    def _number(
        self,
        key: object,
        type_: Type,
        element: int | None = None,
        schema: Mapping[str, Any] | None = None,
        members: Mapping[str, int] | None = None,
    ) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self._known)
            kind = type_.kind if isinstance(type_, PartType) else "json"
            own = members or {}
            inner = ((name, self.element(held)) for name, held in own.items())
            lists = ((None, element), *inner)
            found = tuple((name, of) for name, of in lists if of is not None)
            self._known.append(_Known(type_, kind, schema, element, own, found))
        return self._numbers[key]
