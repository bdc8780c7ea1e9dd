"""What comes to a workflow, bound to its inputs: bytes in, named values out, no I/O.

A workflow takes what a function with the same parameters takes (`dsfn.functions.decode`), as
far as that can be told without user types: content types, names, JSON schemas. A list input
takes an array in JSON, and a field as often as there are items in a form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

from pydantic_core import to_json

from dsfn.functions import event as events
from dsfn.functions.errors import InvalidInput, MalformedBody
from dsfn.functions.event import Event
from dsfn.functions.from_bytes import from_base64, text_of, unsupported
from dsfn.functions.interface import (
    CONTENT_TYPES,
    EVENT_CONTENT_TYPE,
    JSON_CONTENT_TYPE,
    MULTIPART_CONTENT_TYPE,
    Kind,
)
from dsfn.functions.invalid import invalid
from dsfn.functions.jsonbody import parse_json
from dsfn.functions.limits import Limits
from dsfn.functions.media import OCTET_STREAM, matches, parse_content_type, sniff
from dsfn.functions.multipart import Field, read_form
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import MAX_ITEMS, Constant, WorkflowInput
from dsfn.runtime.events.results import event_body
from dsfn.runtime.workflows.schemas import check_value

TEXT_CONTENT_TYPE = "text/plain; charset=utf-8"
_PART_KEYS = ("content_type", "name")
_STANDARD = Limits()
_NULL = Constant.of(None)


@dataclass(frozen=True, slots=True)
class Given:
    """One value that came: `data`, or the `ref` of where they lie. Nothing was looked up yet.
    `at` is its path, for whoever has to hear that it does not fit."""

    at: str
    kind: Kind
    content_type: str
    data: bytes = field(default=b"", repr=False)
    ref: str | None = None
    name: str | None = None


Bound = Mapping[str, Given | Sequence[Given]]


@dataclass(frozen=True, slots=True)
class Binder:
    """Binds to these inputs. Its methods raise `MalformedBody`, `InvalidInput` (with the
    `field`) and `UnsupportedMediaType`, as functions do."""

    inputs: Sequence[WorkflowInput]
    limits: Limits = _STANDARD

    def body(self, content_type: str, body: bytes) -> Bound:
        """What a request's body, or an event's data, gives."""
        media, options = parse_content_type(content_type)
        parts = [one for one in self.inputs if one.kind not in ("json", "event")]
        if not body and media in ("", JSON_CONTENT_TYPE):
            return self._complete({})
        if media == JSON_CONTENT_TYPE:
            return self._object(body)
        if media == EVENT_CONTENT_TYPE:
            return self.event(events.from_document(parse_json(body, self.limits, "event")))
        if media == MULTIPART_CONTENT_TYPE and self.inputs:
            return self._form(read_form(options, body, MAX_ITEMS))
        if len(self.inputs) == 1 and parts:
            return {parts[0].name: self._whole(parts[0], content_type, body)}
        raise unsupported(content_type, self.content_types)

    def event(self, event: Event) -> Bound:
        """What an event gives: an input of kind event is the event, its data are the others."""
        own = next((one for one in self.inputs if one.kind == "event"), None)
        others = Binder([one for one in self.inputs if one is not own], self.limits)
        bound: dict[str, Given | Sequence[Given]] = {}
        if own is not None:
            bound[own.name] = Given(own.name, "event", EVENT_CONTENT_TYPE, event_body(event))
            if not others.inputs:
                return bound
        content_type = event.datacontenttype or (JSON_CONTENT_TYPE if event.data else "")
        return {**others.body(content_type, event.data), **bound}

    @property
    def content_types(self) -> tuple[str, ...]:
        """The content types that a request may have, preferred first."""
        own: list[str] = []
        if len(self.inputs) == 1 and self.inputs[0].kind not in ("json", "event"):
            own.append(CONTENT_TYPES[self.inputs[0].kind])
        if self.inputs:
            own.append(MULTIPART_CONTENT_TYPE)
        return (*own, JSON_CONTENT_TYPE, EVENT_CONTENT_TYPE)

    def _whole(self, one: WorkflowInput, content_type: str, body: bytes) -> Given | list[Given]:
        given = part(one, body, content_type, None, self.content_types)
        return [given] if one.many else given

    def _object(self, body: bytes) -> Bound:
        document = parse_json(body, self.limits)
        if not isinstance(document, dict):
            raise invalid("body", "must be a JSON object of the workflow's inputs")
        by_name = {one.name: one for one in self.inputs}
        bound: dict[str, Given | Sequence[Given]] = {}
        for name, value in document.items():
            if name not in by_name:
                raise _unknown(name)
            bound[name] = self._member(by_name[name], value)
        return self._complete(bound)

    def _member(self, one: WorkflowInput, value: Any) -> Given | list[Given]:
        if value is None and one.default == _NULL:
            return _json_of(one.name, b"null")
        if not one.many:
            return self._value(one, one.name, value)
        if not isinstance(value, list):
            raise invalid(one.name, "must be a list")
        _check_length(one.name, len(value))
        return [self._value(one, f"{one.name}.{at}", item) for at, item in enumerate(value)]

    def _value(self, one: WorkflowInput, at: str, value: Any) -> Given:
        if one.kind == "json":
            if one.schema is not None:
                check_value(one.schema, value, at)
            return _json_of(at, to_json(value))
        if one.kind == "event":
            event = events.from_document(value)
            return Given(at, "event", EVENT_CONTENT_TYPE, event_body(event))
        if isinstance(value, str) and one.kind == "text":
            return Given(at, "text", TEXT_CONTENT_TYPE, _encoded(value, at))
        if isinstance(value, str):
            return part(one, from_base64(value, at), "", None, at=at)
        for form in ("$ref", "base64"):
            if isinstance(value, Mapping) and isinstance(value.get(form), str):
                return _described(one, at, value, form)
        text = "a text" if one.kind == "text" else "base64 text"
        raise invalid(at, f'must be {text}, {{"$ref": ...}} or {{"base64": ...}}')

    def _form(self, fields: Sequence[Field]) -> Bound:
        by_name = {one.name: one for one in self.inputs}
        found: dict[str, list[Given]] = {}
        for each in fields:
            one = by_name.get(each.name)
            if one is None:
                raise _unknown(each.name)
            before = found.setdefault(each.name, [])
            if before and not one.many:
                raise invalid(each.name, "is there more than once")
            at = f"{each.name}.{len(before)}" if one.many else each.name
            before.append(self._field(one, at, each))
        return self._complete(
            {name: given if by_name[name].many else given[0] for name, given in found.items()}
        )

    def _field(self, one: WorkflowInput, at: str, each: Field) -> Given:
        if one.kind == "json":
            return self._json_field(one, at, each)
        if one.kind == "event":
            return self._value(one, at, parse_json(each.data, self.limits, at))
        default = "text/plain" if one.kind == "text" else ""
        return part(one, each.data, each.content_type or default, each.filename, at=at)

    def _json_field(self, one: WorkflowInput, at: str, each: Field) -> Given:
        def read(data: bytes) -> Given:
            return self._value(one, at, parse_json(data, self.limits, at))

        try:
            return read(each.data)
        except (MalformedBody, InvalidInput) as error:
            if each.content_type.startswith(JSON_CONTENT_TYPE):
                raise
            # A form's plain text, such as `hello`, is the string that it looks like.
            quoted = to_json(text_of(each.data, "utf-8", at))
            try:
                return read(quoted)
            except InvalidInput as second:
                raise second if isinstance(error, MalformedBody) else error from None

    def _complete(self, bound: dict[str, Given | Sequence[Given]]) -> Bound:
        missing = [one.name for one in self.inputs if one.required and one.name not in bound]
        if missing:
            errors = [{"field": name, "message": "is missing"} for name in missing]
            raise InvalidInput(f"'{missing[0]}' is missing.", field=missing[0], errors=errors)
        return bound


def part(
    one: WorkflowInput,
    data: bytes,
    content_type: str,
    filename: str | None,
    expected: tuple[str, ...] = (),
    at: str | None = None,
) -> Given:
    """Bytes as a part of an input's kind; a content type of "" is found out from them."""
    place = at or one.name
    fitting = part_type(one.kind, place, content_type, expected, lambda: data[:64])
    if one.kind == "text":
        _, options = parse_content_type(content_type)
        text = text_of(data, dict(options).get("charset", "utf-8"), place)
        return Given(place, "text", TEXT_CONTENT_TYPE, text.encode())
    return Given(place, one.kind, fitting, data, name=filename)


def part_type(
    kind: Kind,
    at: str,
    content_type: str,
    expected: tuple[str, ...],
    head: Callable[[], bytes],
) -> str:
    """The content type of a part, which must be one of its kind's. `head` gives its first bytes,
    for one that comes without."""
    own = CONTENT_TYPES[kind]
    media, _ = parse_content_type(content_type)
    if media and media != OCTET_STREAM:
        if not matches(media, own):
            raise unsupported(content_type, expected or (own,), at)
        return content_type
    if kind == "tensor" or kind == "text":
        return own if kind == "tensor" else TEXT_CONTENT_TYPE
    guessed = sniff(head())
    if not matches(guessed, own):
        raise invalid(at, f"does not look like {own}; say its content type")
    return guessed


def _described(one: WorkflowInput, at: str, value: Mapping[str, Any], form: str) -> Given:
    """A part as an object: where its bytes are, their content type and name if known."""
    unknown = set(value) - {form, *_PART_KEYS}
    content_type, filename = value.get("content_type") or "", value.get("name")
    if unknown or not isinstance(content_type, str) or not isinstance(filename, str | None):
        raise invalid(at, f"takes '{form}', 'content_type' and 'name', all texts")
    if form == "$ref":
        return Given(at, one.kind, content_type, ref=value[form], name=filename)
    return part(one, from_base64(value[form], at), content_type, filename, at=at)


def _json_of(at: str, data: bytes) -> Given:
    return Given(at, "json", JSON_CONTENT_TYPE, data)


def _encoded(text: str, at: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise invalid(at, f"is no Unicode text ({error})") from error


def _check_length(at: str, count: int) -> None:
    if count > MAX_ITEMS:
        raise invalid(at, f"has {count} items; at most {MAX_ITEMS} are taken")


def _unknown(name: str) -> InvalidInput:
    return invalid(name, "is not something that the workflow takes")
