"""Whether a call can fit a function, as far as its headers and the size of its body tell."""

from __future__ import annotations

from dsfn.functions.errors import PayloadTooLarge
from dsfn.functions.from_bytes import check_charset, unsupported
from dsfn.functions.interface import (
    CONTENT_TYPES,
    EVENT_CONTENT_TYPE,
    JSON_CONTENT_TYPE,
    MULTIPART_CONTENT_TYPE,
    Interface,
    Kind,
    ResultInterface,
)
from dsfn.functions.invalid import BODY, missing
from dsfn.functions.media import matches, parse_content_type
from dsfn.functions.negotiation import choose

_ANY = ("*/*", "", JSON_CONTENT_TYPE)


def check_call(
    interface: Interface, content_type: str, accept: str, body_bytes: int, max_body_bytes: int
) -> None:
    """Refuses what the function would refuse whatever the body holds.

    Raises `NotAcceptable`, `PayloadTooLarge`, `UnsupportedMediaType`, and `InvalidInput` for no
    body where one is needed.
    """
    check_accept(interface.result, accept)
    check_size(body_bytes, max_body_bytes)
    check_content_type(interface, content_type, body_bytes)


def check_accept(result: ResultInterface, accept: str) -> None:
    """Raises `NotAcceptable` when no result can be accepted."""
    if accept not in _ANY:
        choose(accept, result.content_types())


def check_size(body_bytes: int, max_body_bytes: int, field: str = BODY) -> None:
    """Raises `PayloadTooLarge`, naming `field`, for a body that is over the limit together with
    what it refers to."""
    if body_bytes > max_body_bytes:
        raise PayloadTooLarge(
            f"The body, with what it refers to, is over the limit of {max_body_bytes} bytes.",
            field=field,
            limit_bytes=max_body_bytes,
        )


def check_content_type(interface: Interface, content_type: str, body_bytes: int) -> None:
    """Raises `UnsupportedMediaType` for a body that cannot be read as arguments, `InvalidInput`
    where there is none and one is needed."""
    media, _ = parse_content_type(content_type)
    if not body_bytes and media in ("", JSON_CONTENT_TYPE):
        if needed := [p.name for p in interface.parameters if p.required]:
            raise missing(needed)
        return
    if media in (JSON_CONTENT_TYPE, EVENT_CONTENT_TYPE):
        return
    parts = interface.part_parameters()
    if len(interface.parameters) == 1 and parts:
        _check_part(interface, parts[0].name, parts[0].kind, content_type)
    elif media != MULTIPART_CONTENT_TYPE or not parts:
        raise unsupported(content_type, interface.request_content_types())


def _check_part(interface: Interface, name: str, kind: Kind, content_type: str) -> None:
    """The whole body is one part; a content type of "" is found out from its bytes."""
    media, options = parse_content_type(content_type)
    if media and not matches(media, CONTENT_TYPES[kind]):
        raise unsupported(content_type, interface.request_content_types(), name)
    if kind == "text":
        check_charset(dict(options).get("charset", "utf-8"), name)
