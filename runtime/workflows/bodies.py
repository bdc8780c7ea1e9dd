"""Values as bytes: the body of a step's call, and the output of a run.

JSON is spliced as it is, without being parsed. A part in JSON is a `$ref` to its blob or, when
it is small, base64; text is a JSON string.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence

from dsfn.functions.errors import PayloadTooLarge
from dsfn.functions.interface import EVENT_CONTENT_TYPE, JSON_CONTENT_TYPE, Interface, Kind
from dsfn.functions.media import is_json, parse_content_type
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import WorkflowResult
from dsfn.runtime.workflows.binding import TEXT_CONTENT_TYPE
from dsfn.runtime.workflows.model import Blob, Value
from dsfn.runtime.workflows.values import Load, json_blob

_PARTS: frozenset[Kind] = frozenset({"text", "image", "audio", "video", "tensor", "file"})
# A body of these types says something else than "here is the part".
_SPOKEN_FOR = frozenset({"", JSON_CONTENT_TYPE, EVENT_CONTENT_TYPE})


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes with their content type."""

    content_type: str
    data: bytes


def call_body(
    interface: Interface, arguments: Sequence[tuple[str, Value]], load: Load, max_bytes: int
) -> Body:
    """The body of a call with these arguments. Raises `PayloadTooLarge`."""
    if len(interface.parameters) == 1 and len(arguments) == 1:
        (_, value), kind = arguments[0], interface.parameters[0].kind
        if isinstance(value, Blob) and value.inline is not None and _is_raw(value, kind):
            return Body(value.content_type, value.inline)
    kinds = {p.name: p.kind for p in interface.parameters}
    writer = Writer(load, max_bytes)
    writer.members((name, value, kinds.get(name, "json")) for name, value in arguments)
    return Body(JSON_CONTENT_TYPE, writer.written())


def output_blob(
    value: Value, load: Load, max_bytes: int, result: WorkflowResult | None = None
) -> Blob:
    """What a run gives: a blob as it is, lists and objects as JSON; a JSON string as text where
    the workflow declares that. Raises `PayloadTooLarge`."""
    if isinstance(value, Blob):
        return _text(value, load) if result is not None and result.kind == "text" else value
    writer = Writer(load, max_bytes)
    writer.value(value, "json")
    return json_blob(writer.written())


class Writer:
    """Writes JSON from values, up to `max_bytes` of it."""

    def __init__(self, load: Load, max_bytes: int) -> None:
        self._load = load
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._size = 0

    def written(self) -> bytes:
        """All that was written."""
        return b"".join(self._pieces)

    def members(self, members: Iterable[tuple[str, Value, Kind]]) -> None:
        """An object; each member is written for a parameter of its kind."""
        before = b"{"
        for name, value, kind in members:
            self._put(before + json.dumps(name).encode() + b":")
            self.value(value, kind)
            before = b","
        self._put(b"{}" if before == b"{" else b"}")

    def value(self, value: Value, kind: Kind) -> None:
        """A value for a parameter of this kind."""
        if isinstance(value, Blob):
            self._put(self._blob(value, kind))
        elif isinstance(value, Mapping):
            self.members((name, member, kind) for name, member in value.items())
        else:
            before = b"["
            for item in value:
                self._put(before)
                self.value(item, kind)
                before = b","
            self._put(b"[]" if before == b"[" else b"]")

    def _blob(self, blob: Blob, kind: Kind) -> bytes:
        media, options = parse_content_type(blob.content_type)
        if media == JSON_CONTENT_TYPE or (is_json(media) and kind in ("json", "event")):
            return self._load(blob)
        if media.startswith("text/") and (kind == "json" or (kind == "text" and blob.ref is None)):
            text = self._load(blob).decode(dict(options).get("charset", "utf-8"))
            return json.dumps(text, ensure_ascii=False).encode()
        return _part(blob)

    def _put(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._max_bytes:
            raise PayloadTooLarge(
                f"What was put together is larger than {self._max_bytes} bytes.",
                field="body",
                limit_bytes=self._max_bytes,
            )
        self._pieces.append(piece)


def _is_raw(value: Blob, kind: Kind) -> bool:
    media, _ = parse_content_type(value.content_type)
    return kind in _PARTS and media not in _SPOKEN_FOR and value.name is None


def _text(value: Blob, load: Load) -> Blob:
    if not is_json(parse_content_type(value.content_type)[0]):
        return value
    text = json.loads(load(value))
    if not isinstance(text, str):
        return value
    data = text.encode()
    return Blob(TEXT_CONTENT_TYPE, len(data), data)


def _part(part: Blob) -> bytes:
    document = {"content_type": part.content_type}
    if part.ref is not None:
        document["$ref"] = part.ref
    else:
        document["base64"] = b64encode(part.inline or b"").decode()
    if part.name is not None:
        document["name"] = part.name
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
