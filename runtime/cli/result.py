"""The body of an answer: printed as it comes, or collected for a JSON document."""

from __future__ import annotations

import base64
import codecs
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dsfn.functions.errors import DsfnError
from dsfn.functions.media import is_json
from dsfn.functions.values import dataclass
from dsfn.runtime.cli.documents import ChargeDocument
from dsfn.runtime.cli.output import complain, on_terminal, say
from dsfn.runtime.cli.reply import Reply, charge_of
from dsfn.runtime.problem_reading import problem_error

EVENT_STREAM = "text/event-stream"

_INNERMOST_LIST = re.compile(r"\[\n[^\[\]{}]*\]")


@dataclass(frozen=True, slots=True)
class Collected:
    """A whole result: `value` where it is JSON, text or a stream of them, else `data`.
    `charge` is what a stream said of itself at its end."""

    value: Any
    data: bytes | None
    bytes: int
    charge: ChargeDocument | None = None


def write_result(reply: Reply, path: Path) -> int:
    """Writes the body to a file and gives its size in bytes."""
    written = 0
    try:
        with path.open("wb") as file:
            for chunk in reply.chunks:
                written += file.write(chunk)
    except OSError as error:
        raise DsfnError(f"{path} cannot be written: {error.strerror}.") from error
    return written


def collect_result(reply: Reply) -> Collected:
    """Reads the whole body."""
    body = b"".join(reply.chunks)
    if reply.media_type == EVENT_STREAM:
        charges: list[ChargeDocument] = []
        items = [_value(data) for data in server_sent(iter((body,)), charges.append)]
        return Collected(items, None, len(body), charges[0] if charges else None)
    event = _event(reply.headers, body)
    if event is not None:
        return Collected(event, None, len(body))
    if is_json(reply.media_type):
        return Collected(_parsed(body), None, len(body))
    if reply.media_type.startswith("text/"):
        return Collected(body.decode(errors="replace"), None, len(body))
    return Collected(None, body, len(body))


def print_result(reply: Reply, streams_text: Callable[[], bool]) -> None:
    """Prints the body: JSON indented, text and streams as they come, other bytes only
    where no terminal would show them. `streams_text` tells, of a stream of events,
    whether they are pieces of one text."""
    if reply.media_type == EVENT_STREAM:
        _print_stream(reply.chunks, streams_text())
    elif _is_event(reply.headers) or is_json(reply.media_type):
        value = collect_result(reply).value
        say(readable(value) if on_terminal() else json.dumps(value, ensure_ascii=False))
    elif reply.media_type.startswith("text/"):
        _print_text(reply.chunks)
    elif on_terminal():
        size = sum(len(chunk) for chunk in reply.chunks)
        complain(f"{size} bytes of {reply.media_type}; use --output FILE.")
    else:
        for chunk in reply.chunks:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


def readable(value: Any) -> str:
    """JSON indented for people, but with lists of plain values on one line: an embedding has
    hundreds of them."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _INNERMOST_LIST.sub(_on_one_line, text)


def _on_one_line(found: re.Match[str]) -> str:
    return "[" + " ".join(line.strip() for line in found[0][1:-1].split("\n")).strip() + "]"


def server_sent(
    chunks: Iterator[bytes], on_usage: Callable[[ChargeDocument], None] = lambda _: None
) -> Iterator[str]:
    """The data of each server-sent event without a name: the function's own. `on_usage` gets
    that of the last, `usage`. Raises the error that an `error` event tells of."""
    for kind, data in named_events(chunks):
        if kind == "error":
            raise problem_error(json.loads(data))
        if kind == "usage":
            on_usage(charge_of(json.loads(data)))
        elif kind == "message":
            yield data


def named_events(chunks: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    """The name and data of each server-sent event; a comment is `("", "")`."""
    kind, lines = "message", []
    for line in _lines(chunks):
        if line.startswith("event:"):
            kind = line[6:].strip()
        elif line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
        elif line.startswith(":"):
            yield "", ""
        elif not line and lines:
            yield kind, "\n".join(lines)
            kind, lines = "message", []


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace").removesuffix("\r") for line in lines)


def _print_stream(chunks: Iterator[bytes], as_text: bool) -> None:
    for data in server_sent(chunks):
        say(data, end="" if as_text else "\n", flush=True)
    if as_text:
        say()


def _print_text(chunks: Iterator[bytes]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    last = ""
    for chunk in chunks:
        text = decoder.decode(chunk)
        sys.stdout.write(text)
        sys.stdout.flush()
        last = text[-1:] or last
    if on_terminal() and last != "\n":
        say()


def _value(data: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise DsfnError("The function's answer says it is JSON and is not.") from None


def _is_event(headers: Mapping[str, str]) -> bool:
    return "ce-specversion" in headers


def _event(headers: Mapping[str, str], body: bytes) -> dict[str, Any] | None:
    """A CloudEvent in binary mode, as the JSON format has it."""
    if not _is_event(headers):
        return None
    from urllib.parse import unquote

    from dsfn.functions.event import from_document, to_document

    document: dict[str, Any] = {
        name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")
    }
    if body:
        document["datacontenttype"] = headers.get("content-type", "")
        document["data_base64"] = base64.b64encode(body).decode()
    return to_document(from_document(document))
