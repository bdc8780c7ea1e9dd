"""From what a function returned (or yielded) to bytes with a content type."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any

from pydantic_core import PydanticSerializationError, ValidationError, to_json

from dsfn.functions.errors import HandlerRaised
from dsfn.functions.event import Event, to_document
from dsfn.functions.interface import EVENT_CONTENT_TYPE, JSON_CONTENT_TYPE
from dsfn.functions.jsonbody import named, non_finite
from dsfn.functions.negotiation import choose
from dsfn.functions.parts import File, Part, Text
from dsfn.functions.signature import Signature
from dsfn.functions.values import dataclass

_ANY = ("*/*", "", JSON_CONTENT_TYPE)
_LINE_BREAK = re.compile("\r\n|\r|\n")
_FOREIGN = re.compile(r"'(numpy|torch)\.")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A result as it travels."""

    content_type: str
    body: bytes


def encode_result(signature: Signature, value: object, accept: str = "*/*") -> Encoded:
    """A whole result.

    Raises `HandlerRaised` when the value is not what the function says it returns,
    `NotAcceptable` when the client takes no form of it.
    """
    kind = signature.result.kind
    if kind == "json" or (value is None and signature.result.optional):
        if accept not in _ANY:
            choose(accept, (JSON_CONTENT_TYPE,))
        body = _json(signature, value) if kind == "json" else b"null"
        return Encoded(JSON_CONTENT_TYPE, body)
    if kind == "event":
        event_type = choose(accept, (EVENT_CONTENT_TYPE, JSON_CONTENT_TYPE))
        return Encoded(event_type, _event(signature, value))
    part = _part(signature, value)
    content_type: str = part.content_type  # type: ignore[attr-defined]  # every part has one
    if choose(accept, (content_type, JSON_CONTENT_TYPE)) == JSON_CONTENT_TYPE != content_type:
        return Encoded(JSON_CONTENT_TYPE, _part_as_json(part, content_type))
    return Encoded(content_type, part.encoded())


def encode_item(signature: Signature, item: object) -> bytes:
    """One item of a stream: a server-sent event, or a raw part's bytes.

    In a Text item every line break becomes "\\n", as server-sent events have no other.
    Raises `HandlerRaised`.
    """
    kind = signature.result.kind
    if kind == "json":
        return b"data: " + _json(signature, item) + b"\n\n"
    if kind == "event":
        return b"data: " + _event(signature, item) + b"\n\n"
    part = _part(signature, item)
    if isinstance(part, Text):
        lines = _LINE_BREAK.split(part)
        return "".join(f"data: {line}\n" for line in lines).encode() + b"\n"
    return part.encoded()


def _json(signature: Signature, value: object) -> bytes:
    adapter = signature.result_adapter
    try:
        checked = adapter.validate_python(value)
        body = adapter.dump_json(checked, by_alias=True)
    except ValidationError as error:
        reason = named(error, "result")
        raise _wrong(signature, f"{reason.message} {_hint(value, error)}".strip()) from None
    except PydanticSerializationError as error:
        raise _wrong(signature, f"{error}. {_hint(value, error)}".strip()) from None
    # pydantic writes NaN as null; only a body that has one is worth a closer look.
    if b"null" in body or b"NaN" in body or b"Infinity" in body:
        path = non_finite(adapter.dump_python(checked, by_alias=True), "")
        if path is not None:
            where = f" at '{path}'" if path else ""
            raise _wrong(signature, f"it holds NaN or infinity{where}, which JSON lacks.")
    return body


def _event(signature: Signature, value: object) -> bytes:
    if not isinstance(value, Event):
        raise _wrong_type(signature, value, "an Event")
    return to_json(to_document(value))


def _part(signature: Signature, value: object) -> Part:
    kind: type[Part] = signature.result.annotation
    if isinstance(value, kind):
        return value
    if issubclass(kind, Text) and isinstance(value, str):
        return kind(value)
    raise _wrong_type(signature, value, kind.__name__)


def _part_as_json(part: Part, content_type: str) -> bytes:
    if isinstance(part, Text):
        return to_json(str(part))
    document: dict[str, Any] = {
        "base64": b64encode(part.encoded()).decode(),
        "content_type": content_type,
    }
    if isinstance(part, File) and part.name is not None:
        document["name"] = part.name
    return to_json(document)


def _hint(value: object, error: Exception) -> str:
    root = type(value).__module__.partition(".")[0]
    if root in ("numpy", "torch") or _FOREIGN.search(str(error)):
        return "Return a Tensor, or plain numbers by .tolist() or float()."
    if isinstance(value, Part):
        return f"Annotate the result as {type(value).__name__}."
    return ""


def _wrong_type(signature: Signature, value: object, wanted: str) -> HandlerRaised:
    found = type(value)
    root = found.__module__.partition(".")[0]
    module = "" if found.__module__ == "builtins" else f"{root}."
    hint = f" Wrap it with {wanted}.of(...)." if root in ("numpy", "torch", "PIL") else ""
    return _wrong(signature, f"it is a {module}{found.__name__}, not {wanted}.{hint}")


def _wrong(signature: Signature, reason: str) -> HandlerRaised:
    return HandlerRaised(
        f"What '{signature.function}' returned cannot be sent: {reason}",
        exception="ResultError",
        traceback="",
    )
