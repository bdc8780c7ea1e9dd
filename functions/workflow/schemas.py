"""Whether a JSON value of one schema can ever be one of another.

Schemas are those that pydantic writes, and others of JSON Schema 2020-12 as far as they are made
of the same words; of what is not understood it is supposed that it fits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from dsfn.functions.values import dataclass

_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_MAX_EXPANSIONS = 256
_MAX_DEPTH = 32


@dataclass(frozen=True)
class Schema:
    """A schema within the one that has its `$defs`. True and {} are of anything."""

    node: Any
    root: Any

    @classmethod
    def of(cls, whole: Mapping[str, Any] | None) -> Schema:
        """A whole schema; None is anything."""
        return cls(whole or {}, whole or {})

    def inner(self, node: Any) -> Schema:
        """A part of it."""
        return Schema(node, self.root)

    @property
    def words(self) -> Mapping[str, Any]:
        """Its keywords."""
        return self.node if isinstance(self.node, Mapping) else {}

    @property
    def is_anything(self) -> bool:
        """Whether every value is one of it."""
        return self.node is True or (isinstance(self.node, Mapping) and not self._limiting)

    @property
    def _limiting(self) -> set[str]:
        return set(self.words) - {"title", "description", "default", "examples", "$defs"}

    @cached_property
    def alternatives(self) -> tuple[Schema, ...]:
        """Schemas without references and choices, of which a value fits one."""
        found: list[Schema] = []
        waiting = [self]
        for _ in range(_MAX_EXPANSIONS):
            if not waiting:
                return tuple(found)
            schema = waiting.pop()
            options = schema._options()
            if options is None:
                found.append(schema)
            else:
                waiting += reversed(options)
        # A choice between too many, or one that refers to itself: supposed to be anything.
        return (self.inner(True),)

    def _options(self) -> list[Schema] | None:
        """What a reference or choice stands for; None for a schema that is neither."""
        if "$ref" in self.words:
            return [self._referred()]
        for word in ("anyOf", "oneOf"):
            if word in self.words:
                return [self.inner(node) for node in self.words[word]]
        if "allOf" in self.words:
            each = self.words["allOf"]
            return [self.inner(each[0] if len(each) == 1 else True)]
        return None

    def _referred(self) -> Schema:
        node = self.root
        for step in str(self.words["$ref"]).removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, Mapping) or name not in node:
                return self.inner(True)
            node = node[name]
        return self.inner(node)

    @cached_property
    def types(self) -> frozenset[str]:
        """The types that its values may have, of one alternative."""
        if self.node is False:
            return frozenset()
        values = self.values
        if values is not None:
            return frozenset(_type_of(value) for value in values)
        found = self.words.get("type", _TYPES)
        return frozenset([found] if isinstance(found, str) else found)

    @property
    def values(self) -> list[Any] | None:
        """All its values, of one alternative, where it lists them."""
        if "const" in self.words:
            return [self.words["const"]]
        found = self.words.get("enum")
        return list(found) if isinstance(found, list) else None

    def item(self, index: int | None = None) -> Schema | None:
        """The schema of an item (of any, for None), of one alternative; None if it has none."""
        if "array" not in self.types:
            return None
        values = self.values
        if values is not None:
            return self._of_values(index)
        first = self.words.get("prefixItems", [])
        if index is not None and index < len(first):
            return self.inner(first[index])
        most = self.words.get("maxItems")
        if isinstance(most, int) and (most == 0 or (index is not None and index >= most)):
            return None
        rest = self.words.get("items", True if not first else False)
        if rest is False and index is None and first:
            return self.inner({"anyOf": first})
        return None if rest is False else self.inner(rest)

    def member(self, name: str) -> Schema | None:
        """The schema of a member, of one alternative; None if it can have none of the name."""
        if "object" not in self.types:
            return None
        if self.values is not None:
            return self._of_values(name)
        known = self.words.get("properties", {})
        if name in known:
            return self.inner(known[name])
        # A model's schema does not say that it has no other members; but so it is.
        other = self.words.get("additionalProperties", not known)
        return None if other is False else self.inner(other)

    def _of_values(self, key: int | str | None) -> Schema | None:
        found: list[Any] = []
        for value in self.values or []:
            if key is None and isinstance(value, list):
                found += value
            elif isinstance(key, str) and isinstance(value, dict) and key in value:
                found.append(value[key])
            elif isinstance(key, int) and isinstance(value, list) and key < len(value):
                found.append(value[key])
        return Schema.of({"enum": found}) if found else None

    def __str__(self) -> str:
        return _described(self, _MAX_DEPTH // 8)


def constant_schema(value: Any) -> Schema:
    """The schema of one value."""
    return Schema.of({"const": value})


def clash(source: Schema, target: Schema) -> str | None:
    """Why a value of `source` can never be one of `target`; None when it may be."""
    return _Comparison({}).clash(source, target, _MAX_DEPTH)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Pairs that were compared, or are being, with what came of it: schemas may be recursive.

    The schemas are kept, so that the ids of their nodes stay theirs.
    """

    known: dict[tuple[int, int], tuple[Schema, Schema, str | None]]

    def clash(self, source: Schema, target: Schema, depth: int) -> str | None:
        reason = None
        for one in source.alternatives:
            reasons = [self._of_pair(one, other, depth) for other in target.alternatives]
            if None in reasons:
                return None
            single = reasons[0] if len(reasons) == 1 else f"{one} is not {target}"
            reason = reason or single
        return reason

    def _of_pair(self, one: Schema, other: Schema, depth: int) -> str | None:
        """As `clash`, of two alternatives."""
        if depth == 0 or other.is_anything or one.is_anything:
            return None
        pair = (id(one.node), id(other.node))
        if pair not in self.known:
            self.known[pair] = (one, other, None)
            self.known[pair] = (one, other, self._compare(one, other, depth))
        return self.known[pair][2]

    def _compare(self, one: Schema, other: Schema, depth: int) -> str | None:
        if one.values is not None:
            reasons = [_refusal(value, other) for value in one.values]
            return None if None in reasons or not reasons else reasons[0]
        common = frozenset(t for t in one.types if _takes(other.types, t))
        if other.values is not None:
            fits = any(_takes(common, _type_of(value)) for value in other.values)
            return None if fits else f"{one} is not {other}"
        if common - {"array", "object"}:
            return None
        reasons = []
        if "array" in common:
            reasons.append(self._arrays(one, other, depth))
        if "object" in common:
            reasons.append(self._objects(one, other, depth))
        if None in reasons:
            return None
        return reasons[0] if reasons else f"{one} is not {other}"

    def _arrays(self, one: Schema, other: Schema, depth: int) -> str | None:
        least, most = one.words.get("minItems", 0), one.words.get("maxItems")
        if least > other.words.get("maxItems", least):
            return f"at least {least} items are more than {other.words['maxItems']}"
        if most is not None and most < other.words.get("minItems", most):
            return f"at most {most} items are fewer than {other.words['minItems']}"
        firsts = max(len(s.words.get("prefixItems", [])) for s in (one, other))
        for index in (*range(firsts), None):
            from_, to = one.item(index), other.item(index)
            reason = None if from_ is None or to is None else self.clash(from_, to, depth - 1)
            if reason is not None:
                return f"of its items, {reason}" if index is None else f"item {index}: {reason}"
        return None

    def _objects(self, one: Schema, other: Schema, depth: int) -> str | None:
        always = set(one.words.get("required", ()))
        needed = set(other.words.get("required", ()))
        for name in sorted(always | needed):
            from_, to = one.member(name), other.member(name)
            if from_ is None and name in needed:
                return f"it has no member '{name}'"
            if to is None and other.words.get("additionalProperties") is False:
                return f"its member '{name}' is not taken"
            reason = None if from_ is None or to is None else self.clash(from_, to, depth - 1)
            if reason is not None:
                return f"its member '{name}': {reason}"
        return None


def _takes(types: frozenset[str], type_: str) -> bool:
    return type_ in types or (type_ == "integer" and "number" in types)


def _refusal(value: Any, schema: Schema) -> str | None:
    """Why one value is not one of a schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    if not _takes(schema.types, _type_of(value)):
        return f"{shown(value)} is not {schema}"
    whole = {**schema.words, "$defs": Schema.of(schema.root).words.get("$defs", {})}
    try:
        # The registry is empty: nothing is fetched from where a reference may lead.
        validator = Draft202012Validator(whole, registry=Registry())
        error = best_match(validator.iter_errors(value))
    except (Unresolvable, RecursionError):
        return None
    if error is None:
        return None
    where = "".join(f"[{step!r}]" for step in error.absolute_path)
    return f"{error.message}{f' at {where}' if where else ''}"


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]


def _described(schema: Schema, depth: int) -> str:
    if schema.is_anything:
        return "any JSON"
    options = schema.alternatives
    if len(options) != 1:
        found = dict.fromkeys(_described(option, depth) for option in options[:6])
        return " or ".join(found)
    (one,) = options
    if "properties" in one.words and isinstance(one.words.get("title"), str):
        return str(one.words["title"])
    if one.values is not None:
        return " or ".join(shown(value) for value in one.values[:6])
    if one.types == {"array"} and depth > 0:
        item = one.item()
        held = "" if item is None or item.is_anything else f" of {_described(item, depth - 1)}"
        return f"list{held}"
    return " or ".join(t for t in _TYPES if t in one.types) or "nothing"


def shown(value: Any) -> str:
    """A JSON value in a sentence, cut when it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}..."
