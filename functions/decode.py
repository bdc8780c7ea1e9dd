"""From a request body to a function's arguments, without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pydantic_core import to_json

from dsfn.functions.admission import check_content_type, check_size
from dsfn.functions.errors import InvalidInput, MalformedBody, NotFound, PayloadTooLarge
from dsfn.functions.event import DATAREF, Event, from_document
from dsfn.functions.from_bytes import from_base64, part_of, text_of
from dsfn.functions.interface import EVENT_CONTENT_TYPE, JSON_CONTENT_TYPE
from dsfn.functions.invalid import invalid, missing
from dsfn.functions.jsonbody import parse_json, read_json
from dsfn.functions.limits import Limits
from dsfn.functions.media import OCTET_STREAM, parse_content_type
from dsfn.functions.multipart import Field, read_form
from dsfn.functions.parts import Part, Text
from dsfn.functions.signature import Parameter, Signature
from dsfn.functions.values import dataclass

Fetch = Callable[[str], tuple[bytes, str]]

_STANDARD = Limits()
BLOB_SCHEME = "blob:"
# How an object in JSON says where the bytes of a part are.
_FORMS = ("$ref", "base64")


def decode_arguments(
    signature: Signature,
    content_type: str,
    body: bytes | memoryview,
    fetch: Fetch,
    limits: Limits = _STANDARD,
) -> dict[str, object]:
    """The arguments by name; a parameter that is not given is left to its default.

    `fetch` gives the bytes and content type of a `$ref`. Raises `MalformedBody`,
    `InvalidInput` (with the `field`), `UnsupportedMediaType`, `PayloadTooLarge`.
    """
    check_size(len(body), limits.max_body_bytes)
    data = body if isinstance(body, bytes) else bytes(body)
    if content_type == JSON_CONTENT_TYPE and data and signature.json_only:
        return read_json(signature.body_adapter, data, limits)  # type: ignore[no-any-return]
    return _Decoder(signature, fetch, limits).decode(content_type, data)


@dataclass(slots=True)
class _Decoder:
    """One body; counts what its `$ref`s bring."""

    signature: Signature
    fetch: Fetch
    limits: Limits
    fetched_bytes: int = 0

    def decode(self, content_type: str, body: bytes) -> dict[str, object]:
        check_content_type(self.signature.outline, content_type, len(body))
        media, options = parse_content_type(content_type)
        if not body and media in ("", JSON_CONTENT_TYPE):
            return {}
        if media == JSON_CONTENT_TYPE:
            return self._object(body)
        if media == EVENT_CONTENT_TYPE:
            return self._event(from_document(parse_json(body, self.limits, "event")))
        if len(self.signature.parameters) > 1:
            return self._form(read_form(options, body))
        (part,) = self.signature.parameters
        return {part.name: self._part(part, body, content_type)}

    def _object(self, body: bytes) -> dict[str, object]:
        document = parse_json(body, self.limits)
        if not isinstance(document, dict):
            raise invalid("body", "must be a JSON object of the function's parameters")
        given: dict[str, object] = {}
        for parameter in self.signature.parameters:
            if parameter.kind != "json" and parameter.name in document:
                given[parameter.name] = self._value(parameter, document.pop(parameter.name))
        # Checks what is left, and refuses names that nothing takes.
        plain = read_json(self.signature.body_adapter, to_json(document), self.limits)
        return self._complete({**given, **plain})

    def _event(self, event: Event) -> dict[str, object]:
        parameter = self.signature.event_parameter
        others = self.signature.without_event
        if others.parameters or parameter is None:
            event = self._with_data(event)
        else:
            event = self._with_stored_data(event)
        given: dict[str, object] = {} if parameter is None else {parameter.name: event}
        if parameter is not None and not others.parameters:
            return given
        content_type = event.datacontenttype or (JSON_CONTENT_TYPE if event.data else "")
        decoder = _Decoder(others, self.fetch, self.limits)
        return {**decoder.decode(content_type, event.data), **given}

    def _with_stored_data(self, event: Event) -> Event:
        """The event with its data, where those are in the node's own store: nobody but the
        node can read there, while the web is left to whoever wants it."""
        reference = event.attribute(DATAREF) or ""
        return self._with_data(event) if reference.startswith(BLOB_SCHEME) else event

    def _with_data(self, event: Event) -> Event:
        """The event with the data that it refers to, if it has none of its own."""
        reference = event.attribute(DATAREF)
        if reference is None or event.data:
            return event
        data, stored = self._fetch(DATAREF, reference)
        return replace(event, data=data, datacontenttype=event.datacontenttype or stored)

    def _form(self, fields: list[Field]) -> dict[str, object]:
        given: dict[str, object] = {}
        for field in fields:
            parameter = self.signature.by_name.get(field.name)
            if parameter is None:
                raise invalid(field.name, "is not something that the function takes")
            if field.name in given:
                raise invalid(field.name, "is there more than once")
            if parameter.kind == "json":
                given[field.name] = self._form_json(field)
            elif parameter.kind == "event":
                document = parse_json(field.data, self.limits, field.name)
                given[field.name] = self._with_stored_data(from_document(document))
            else:
                content_type = field.content_type or _default_content_type(parameter)
                given[field.name] = self._part(parameter, field.data, content_type, field.filename)
        return self._complete(given)

    def _form_json(self, field: Field) -> object:
        adapter = self.signature.parameter_adapter(field.name)
        if field.content_type.startswith(JSON_CONTENT_TYPE):
            return read_json(adapter, field.data, self.limits, field.name)
        try:
            return read_json(adapter, field.data, self.limits, field.name)
        except (MalformedBody, InvalidInput) as error:
            # A form's plain text, such as `hello`, is the string that it looks like.
            quoted = to_json(text_of(field.data, "utf-8", field.name))
            try:
                return read_json(adapter, quoted, self.limits, field.name)
            except InvalidInput as second:
                raise second if isinstance(error, MalformedBody) else error from None

    def _complete(self, given: dict[str, object]) -> dict[str, object]:
        needed = [p.name for p in self.signature.parameters if p.required and p.name not in given]
        if needed:
            raise missing(needed)
        return given

    def _value(self, parameter: Parameter, value: Any) -> object:
        """A part or event inside JSON."""
        name = parameter.name
        if value is None and parameter.optional:
            return None
        if parameter.kind == "event":
            return self._with_stored_data(from_document(value))
        if isinstance(value, str):
            if parameter.kind == "text":
                return Text(value)
            return self._part(parameter, from_base64(value, name), "")
        for form in _FORMS:
            if isinstance(value, Mapping) and isinstance(value.get(form), str):
                return self._described(parameter, value, form)
        text = "a text" if parameter.kind == "text" else "base64 text"
        raise invalid(name, f'must be {text}, {{"$ref": ...}} or {{"base64": ...}}')

    def _described(self, parameter: Parameter, value: Mapping[str, Any], form: str) -> object:
        """A part as an object: where its bytes are, their content type and name if known."""
        name = parameter.name
        unknown = set(value) - {form, "content_type", "name"}
        content_type, filename = value.get("content_type") or "", value.get("name")
        texts = isinstance(content_type, str) and isinstance(filename, str | None)
        if unknown or not texts:
            raise invalid(name, f"takes '{form}', 'content_type' and 'name', all texts")
        if form == "base64":
            data = from_base64(value[form], name)
        else:
            data, stored = self._fetch(name, value[form])
            # What the reference says goes before what the bytes were stored as.
            content_type = content_type or ("" if stored == OCTET_STREAM else stored)
        return self._part(parameter, data, content_type, filename)

    def _fetch(self, field: str, reference: str) -> tuple[bytes, str]:
        try:
            data, content_type = self.fetch(reference)
        except NotFound as error:
            raise invalid(field, f"refers to {reference!r}, which does not exist") from error
        except InvalidInput as error:
            reason = error.message.removesuffix(".")
            raise invalid(field, f"cannot be fetched: {reason}") from error
        except PayloadTooLarge as error:
            raise PayloadTooLarge(error.message, **{**error.fields, "field": field}) from error
        self.fetched_bytes += len(data)
        check_size(self.fetched_bytes, self.limits.max_body_bytes, field)
        return data, content_type

    def _part(
        self, parameter: Parameter, data: bytes, content_type: str, filename: str | None = None
    ) -> Part:
        kind: type[Part] = parameter.annotation
        return part_of(kind, parameter.name, data, content_type, filename)


def _default_content_type(parameter: Parameter) -> str:
    return "text/plain" if parameter.kind == "text" else ""
