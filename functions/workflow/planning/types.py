"""The types of what flows, as small numbers: what fits where, and how it gets there.

Comparing JSON schemas is slow and a search asks the same again and again; each question is
answered once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dsfn.functions.interface import CONTENT_TYPES, EVENT_CONTENT_TYPE, Kind, ParameterInterface
from dsfn.functions.media import is_json, parse_content_type
from dsfn.functions.workflow.checking import compatible
from dsfn.functions.workflow.planning.schemas import element_of, members_of, plain

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
class Type:
    """A kind, with the JSON schema (as text) of kind "json", None when nothing is known of it;
    `of` a list of parts, or of JSON of which nothing is known, its element."""

    kind: Kind
    schema: str | None = None
    of: int | None = None


_GIVEN_JSON = Type("json")


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

    _numbers: dict[Type, int] = field(default_factory=dict)
    _types: list[Type] = field(default_factory=list)
    _schemas: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    _fits: dict[tuple[int, int], bool] = field(default_factory=dict)
    _ways: dict[tuple[int, int, str], tuple[Way, ...]] = field(default_factory=dict)

    def of(self, kind: Kind, schema: Mapping[str, Any] | None) -> int:
        """The number of a kind, or of JSON of this schema: None for JSON that only its giver
        knows, which may go wherever JSON goes."""
        if kind != "json" or schema is None:
            return self._number(Type(kind))
        return self._json(plain(schema))

    def list_of(self, element: int) -> int:
        """The number of a list of this type."""
        if element in self._schemas:
            return self._json({"type": "array", "items": self._schemas[element]})
        return self._number(Type("json", of=element))

    def kind(self, number: int) -> Kind:
        """The kind of a type."""
        return self._types[number].kind

    def is_list(self, number: int) -> bool:
        """Whether it is known to be a list."""
        return self.element(number) is not None

    def is_text(self, number: int) -> bool:
        """Whether it is text, or a JSON string."""
        own = self._schemas.get(number)
        return own.get("type") == "string" if own else self.kind(number) == "text"

    def element(self, number: int) -> int | None:
        """The type of a list's elements; None for what is no list."""
        own = self._types[number]
        if number not in self._schemas:
            return own.of
        schema = element_of(self._schemas[number])
        return None if schema is None else self._json(schema)

    def describe(self, number: int) -> str:
        """A type in words: "image/*", "a JSON list"."""
        own = self._types[number]
        if own.of is not None:
            return f"a list of {self.describe(own.of)}"
        if own.kind != "json":
            return CONTENT_TYPES[own.kind]
        word = str(self._schemas.get(number, {}).get("type", ""))
        return {"": "JSON", "array": "a JSON list"}.get(word, f"a JSON {word}")

    def members(self, number: int) -> dict[str, int]:
        """The types of the members that an object always has."""
        if number not in self._schemas:
            return {}
        return {name: self._json(s) for name, s in members_of(self._schemas[number]).items()}

    def fits(self, source: int, target: int) -> bool:
        """Whether every value of one type may stand where the other is asked for."""
        key = (source, target)
        if key not in self._fits:
            self._fits[key] = source == target or self._compare(source, target)
        return self._fits[key]

    def ways(self, source: int, parameter: ParameterInterface, target: int) -> tuple[Way, ...]:
        """How a value can become this parameter's argument, the plainest way first.

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
                for listed, element in self._lists(source)
                for inner in self._into(element, name, target)
                if listed is None or inner is not None or self._is_meant(listed, name, element)
            ]
        joined = source
        for count in range(1, MAX_NESTING + 1):
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
            if self.fits(own, target)
            and (member == name or (self._is_structure(own) and not self._is_any(target)))
        ]

    def _lists(self, source: int) -> list[tuple[str | None, int]]:
        """The lists in a value, by member (None: it is one itself), with their elements."""
        whole = self.element(source)
        if whole is not None:
            return [(None, whole)]
        members = ((name, self.element(own)) for name, own in self.members(source).items())
        return [(name, element) for name, element in members if element is not None]

    def _is_meant(self, listed: str, name: str, element: int) -> bool:
        return self._is_structure(element) or listed in (f"{name}s", f"{name}es", name)

    def _is_structure(self, number: int) -> bool:
        return self.is_list(number) or bool(self.members(number))

    def _is_any(self, number: int) -> bool:
        return self._schemas.get(number) == {}

    def _compare(self, source: int, target: int) -> bool:
        left, right = self._types[source], self._types[target]
        if left.of is not None:
            return self._compare_list(left.of, target)
        if left == _GIVEN_JSON or (self._is_any(source) and right.kind == "json"):
            # What a function gives without saying what it is fits no other function's wishes.
            return right.kind == "json" and (left == _GIVEN_JSON or self._is_any(target))
        if right.of is not None:
            element = self.element(source)
            return element is not None and self.fits(element, right.of)
        return compatible(
            left.kind, self._schemas.get(source), right.kind, self._schemas.get(target)
        )

    def _compare_list(self, element: int, target: int) -> bool:
        """A list of parts. Those of text are strings where JSON is asked for."""
        wanted = self.element(target)
        if wanted is None:
            return self._is_any(target) and self.kind(element) in ("json", "text")
        if self._types[element].kind == "text" and self.kind(wanted) == "json":
            return self.fits(self._json(_STRING), wanted)
        return self.fits(element, wanted)

    def _json(self, schema: Mapping[str, Any]) -> int:
        text = json.dumps(schema, sort_keys=True, separators=(",", ":"))
        number = self._number(Type("json", text))
        self._schemas[number] = schema
        return number

    def _number(self, found: Type) -> int:
        if found not in self._numbers:
            self._numbers[found] = len(self._types)
            self._types.append(found)
        return self._numbers[found]
