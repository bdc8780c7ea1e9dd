"""CloudEvents over HTTP: events from requests, and answers that are events.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md.
Attributes are taken as they were written: an event that is sent again must be the
same event, so nothing is made up for it and no time is reformatted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import quote, unquote

from dsfn.functions import event as events
from dsfn.functions.errors import InvalidInput, MalformedBody, UnsupportedMediaType
from dsfn.functions.event import Event
from dsfn.functions.interface import EVENT_CONTENT_TYPE
from dsfn.runtime.events.results import completed_event, event_body
from dsfn.runtime.model import Answer

BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"
MAX_BATCH_EVENTS = 1000

Headers = Mapping[bytes, bytes]

_FAMILY = b"application/cloudevents"
_CONTENT_TYPE = b"content-type"
_PREFIX = b"ce-"
_REQUIRED = ("specversion", "id", "source", "type")
_REQUIRED_HEADERS = tuple(_PREFIX + name.encode() for name in _REQUIRED)
_CORE = (*_REQUIRED, "subject", "time", "dataschema")
_OWN_MEMBERS = ("datacontenttype", "data")
# Printable ASCII but space, quote and percent goes into a header as it is (section 3.1.3.2).
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


def events_of_request(headers: Headers, body: bytes) -> list[Event]:
    """The events of a request in binary, structured or batched mode.

    Raises `MalformedBody` naming the attribute at fault (and, in a batch, the
    event's index), `UnsupportedMediaType` when the request holds no event.
    """
    if _media_type(headers) == BATCH_CONTENT_TYPE:
        return _batch(body)
    event = event_of_request(headers, body)
    if event is None:
        _unsupported(headers, "The request holds no CloudEvent.")
    return [event]


def event_of_request(headers: Headers, body: bytes) -> Event | None:
    """The event that a request is, in binary or structured mode; None when it is none.

    Raises `MalformedBody` naming the attribute at fault, `UnsupportedMediaType` for
    a batch or another format of events.
    """
    if headers.get(_CONTENT_TYPE, b"").lower().startswith(_FAMILY):
        if _media_type(headers) != EVENT_CONTENT_TYPE:
            _unsupported(headers, "Here one event is taken, as JSON or in binary mode.")
        return _checked(_json(body))
    if any(name in headers for name in _REQUIRED_HEADERS):
        return _binary(headers, body)
    return None


def answer_event(
    answer: Answer, event: Event, headers: Headers
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The answer to a call with an event: an event in the mode of the request.

    Gives its headers, the content type among them, and the body.
    """
    # A revision's id is its function's name, a dash and a digest.
    function = answer.revision.rpartition("-")[0]
    reply = completed_event(function, answer.call_id, answer.content_type, answer.body, event)
    return encode_event(reply, headers)


def encode_event(reply: Event, headers: Headers) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """An event in the mode that a request with these headers has: its own headers and the body."""
    if _media_type(headers) == EVENT_CONTENT_TYPE:
        return [(_CONTENT_TYPE, EVENT_CONTENT_TYPE.encode())], event_body(reply)
    own = [
        (_PREFIX + name.encode(), quote(value, safe=_SAFE).encode())
        for name in (*_CORE, *reply.extensions)
        if (value := reply.attribute(name)) is not None
    ]
    if reply.datacontenttype is not None:
        own.append((_CONTENT_TYPE, reply.datacontenttype.encode()))
    return own, reply.data


def _batch(body: bytes) -> list[Event]:
    documents = _json(body)
    if not isinstance(documents, list):
        raise MalformedBody("A batch is a JSON array of events.", field="event")
    if len(documents) > MAX_BATCH_EVENTS:
        raise MalformedBody(
            f"The batch has {len(documents)} events; at most {MAX_BATCH_EVENTS} are taken.",
            field="event",
            limit=MAX_BATCH_EVENTS,
        )
    return [_checked(document, index) for index, document in enumerate(documents)]


def _binary(headers: Headers, body: bytes) -> Event:
    values = {
        name[len(_PREFIX) :].decode("latin-1"): _header_text(name, value)
        for name, value in headers.items()
        if name.startswith(_PREFIX)
    }
    for name in _REQUIRED:
        if name not in values:
            raise MalformedBody(f"The header 'ce-{name}' is missing.", field=name)
    for name in _OWN_MEMBERS:
        # In binary mode these are the content type and the body.
        if name in values:
            raise MalformedBody(f"There is no header 'ce-{name}'.", field=name)
    core = {name: values.pop(name) for name in _CORE if name in values}
    content_type = headers.get(_CONTENT_TYPE, b"").decode("latin-1") or None
    try:
        return Event(**core, datacontenttype=content_type, data=body, extensions=values)
    except InvalidInput as error:
        raise MalformedBody(error.message, **error.fields) from error


def _checked(document: object, index: int | None = None) -> Event:
    try:
        return events.from_document(document)
    except InvalidInput as error:
        if index is None:
            raise MalformedBody(error.message, **error.fields) from error
        sentence = f"Event {index} of the batch: {error.message}"
        raise MalformedBody(sentence, **error.fields, index=index) from error


def _json(body: bytes) -> object:
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"The body is not JSON ({error}).", field="event") from error
    return document


def _header_text(name: bytes, value: bytes) -> str:
    """A header's value as the attribute it stands for (section 3.1.3.2)."""
    text = value.decode("latin-1")
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        attribute = name[len(_PREFIX) :].decode("latin-1")
        raise MalformedBody(
            f"The header 'ce-{attribute}' is not percent-encoded UTF-8.", field=attribute
        ) from error


def _media_type(headers: Headers) -> str:
    value = headers.get(_CONTENT_TYPE, b"").decode("latin-1")
    return value.partition(";")[0].strip().lower()


def _unsupported(headers: Headers, sentence: str) -> NoReturn:
    raise UnsupportedMediaType(
        sentence,
        content_type=headers.get(_CONTENT_TYPE, b"").decode("latin-1"),
        expected=[EVENT_CONTENT_TYPE, BATCH_CONTENT_TYPE],
    )
