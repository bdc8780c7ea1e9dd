"""What a function streamed, as the one value that a step gives."""

from __future__ import annotations

from dsfn.functions.interface import JSON_CONTENT_TYPE, Kind
from dsfn.functions.parts import Text

_DATA = b"data: "


def whole_stream(kind: Kind, body: bytes) -> tuple[str, bytes]:
    """Content type and bytes of the server-sent events of a function's stream, taken together:
    the list of the items for JSON, their text in one for Text.

    `body` is as `dsfn.functions.encode.encode_item` wrote it.
    """
    items = [
        [line.removeprefix(_DATA) for line in event.split(b"\n")]
        for event in body.split(b"\n\n")[:-1]
    ]
    if kind == "text":
        return Text.content_type, b"".join(b"\n".join(lines) for lines in items)
    return JSON_CONTENT_TYPE, b"[" + b",".join(b"".join(lines) for lines in items) + b"]"
