"""Parts from the bytes that came in, checked against their kind."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error

from dsfn.functions.errors import MalformedBody, UnsupportedMediaType
from dsfn.functions.interface import CONTENT_TYPES
from dsfn.functions.invalid import invalid
from dsfn.functions.media import matches, parse_content_type
from dsfn.functions.parts import File, Media, Part, Tensor, Text

_CHARSETS = ("utf-8", "us-ascii", "iso-8859-1", "utf-16")


def part_of(
    kind: type[Part],
    field: str,
    data: bytes,
    content_type: str,
    filename: str | None,
) -> Part:
    """A part of these bytes, checked; a content type of "" is found out from them.

    Raises `InvalidInput`, `MalformedBody`, `UnsupportedMediaType` naming `field`.
    """
    media, options = parse_content_type(content_type)
    own = CONTENT_TYPES[kind.kind]
    if media and not matches(media, own):
        raise unsupported(content_type, (own,), field)
    if issubclass(kind, Text):
        return kind(text_of(data, dict(options).get("charset", "utf-8"), field))
    if issubclass(kind, Tensor):
        return kind.decoded(data, field)
    assert issubclass(kind, Media)
    part = (
        kind(data, content_type, filename) if issubclass(kind, File) else kind(data, content_type)
    )
    part.check(field)
    return part


def text_of(data: bytes, charset: str, field: str) -> str:
    """Text in one of the known character sets."""
    check_charset(charset, field)
    try:
        return data.decode(charset)
    except UnicodeDecodeError as error:
        raise MalformedBody(f"'{field}' is not {charset} text ({error}).", field=field) from error


def check_charset(charset: str, field: str) -> None:
    """Raises `UnsupportedMediaType` for a character set that is not known."""
    if charset.lower() not in _CHARSETS:
        raise UnsupportedMediaType(
            f"'{field}' is in the character set {charset!r}; send UTF-8.",
            content_type=f"text/plain; charset={charset}",
            expected=["text/plain; charset=utf-8"],
            field=field,
        )


def from_base64(text: str, field: str) -> bytes:
    """The bytes of a base64 text."""
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError) as error:
        raise invalid(field, f"is not base64 ({error})") from error


def unsupported(
    content_type: str, expected: tuple[str, ...], field: str | None = None
) -> UnsupportedMediaType:
    """The error for a content type that is none of those expected."""
    came = f"not {content_type}" if content_type else "but the request says no content type"
    subject = "The body" if field is None else f"'{field}'"
    return UnsupportedMediaType(
        f"{subject} must be {' or '.join(expected)}, {came}.",
        content_type=content_type,
        expected=list(expected),
        field=field or "body",
    )
