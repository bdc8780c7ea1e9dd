"""The body and headers of a call, from the options of `dsfn invoke`."""

from __future__ import annotations

import json
import mimetypes
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from dsfn.functions.errors import UsageError
from dsfn.functions.media import OCTET_STREAM, is_json, parse_content_type
from dsfn.functions.values import dataclass

JSON = "application/json"
DEFAULT_TYPE = "dev.dsfn.invoke"
DEFAULT_SOURCE = "/dsfn/cli"

# What mimetypes does not know, or names as no one else does.
_CONTENT_TYPES = {
    ".safetensors": "application/vnd.safetensors",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".webp": "image/webp",
    ".md": "text/markdown",
}
# RFC 3986's unreserved characters and those that the CloudEvents HTTP binding leaves as they are.
_PLAIN_IN_HEADERS = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


@dataclass(frozen=True, slots=True)
class CallRequest:
    """What is sent to a function."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EventOptions:
    """Attributes of the CloudEvent to send; None where the person chose none."""

    type: str | None
    source: str | None
    id: str | None


def event_options(
    event: bool, type_: str | None, source: str | None, id_: str | None
) -> EventOptions | None:
    """The attributes that were chosen, None when no event is to be sent. Raises `UsageError`."""
    chosen = EventOptions(type_, source, id_)
    if event:
        return chosen
    if chosen != EventOptions(None, None, None):
        raise UsageError("--type, --source and --id are attributes of an event: add --event.")
    return None


def request_from(
    data: str | None,
    file: Path | None,
    content_type: str | None,
    event: EventOptions | None,
    parts: Sequence[str] = (),
) -> CallRequest:
    """The request. An empty JSON object when there is none of `data`, `file` and `parts`
    ("NAME=TEXT" or "NAME=@FILE").

    Raises `UsageError`.
    """
    if (data is not None) + (file is not None) + bool(parts) > 1:
        also = ", --file and --part" if parts else " and --file"
        raise UsageError(f"Choose one of --data{also}.")
    if parts and content_type is not None:
        raise UsageError("The content type of --part is guessed from its file's name.")
    if parts:
        body, guessed = _form(parts)
    elif file is not None:
        body, guessed = _read(file), _content_type(file)
    else:
        body, guessed = _data(data), JSON
    chosen = content_type or guessed
    if data is not None and is_json(parse_content_type(chosen)[0]):
        _check_json(body)
    headers = {"Content-Type": chosen}
    if event is not None:
        headers |= _event_headers(event)
    return CallRequest(body, headers)


def _form(parts: Sequence[str]) -> tuple[bytes, str]:
    """A form (RFC 7578) and its content type."""
    boundary = uuid.uuid4().hex
    lines: list[bytes] = []
    for part in parts:
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise UsageError(f"--part {part!r} is neither NAME=TEXT nor NAME=@FILE.")
        head = f'Content-Disposition: form-data; name="{_quoted(name)}"'
        content = value.encode()
        if value.startswith("@"):
            path = Path(value[1:])
            content = _read(path)
            head += f'; filename="{_quoted(path.name)}"\r\nContent-Type: {_content_type(path)}'
        lines += [f"--{boundary}\r\n{head}\r\n".encode(), content]
    lines.append(f"--{boundary}--\r\n".encode())
    return b"\r\n".join(lines), f"multipart/form-data; boundary={boundary}"


def _quoted(name: str) -> str:
    """A name as a form's header has it: what would end it is percent-encoded (section 2)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _data(data: str | None) -> bytes:
    if data is None:
        return b"{}"
    return _read(Path(data[1:])) if data.startswith("@") else data.encode()


def _read(path: Path) -> bytes:
    """The bytes of a file; `-` is standard input."""
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error


def _content_type(path: Path) -> str:
    known = _CONTENT_TYPES.get(path.suffix.lower())
    return known or mimetypes.guess_type(path.name)[0] or OCTET_STREAM


def _check_json(body: bytes) -> None:
    try:
        json.loads(body)
    except ValueError as error:
        raise UsageError(
            f"--data is not JSON ({error}); for other content use --content-type or --file."
        ) from error


def _event_headers(event: EventOptions) -> dict[str, str]:
    """The attributes as the HTTP binding's binary mode has them. Raises `UsageError`."""
    for name in ("type", "source", "id"):
        if getattr(event, name) == "":
            raise UsageError(f"--{name} must not be empty.")
    attributes = {
        "specversion": "1.0",
        "type": event.type or DEFAULT_TYPE,
        "source": event.source or DEFAULT_SOURCE,
        "id": event.id or str(uuid.uuid4()),
    }
    return {f"ce-{k}": quote(v, safe=_PLAIN_IN_HEADERS) for k, v in attributes.items()}
