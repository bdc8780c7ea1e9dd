"""What CloudEvents 1.0 asks of an event's attributes.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

from dsfn.functions.invalid import invalid

REQUIRED = ("id", "source", "type")
OPTIONAL = ("subject", "time", "datacontenttype", "dataschema")
CORE = ("specversion", *REQUIRED, *OPTIONAL)

MAX_EXTENSIONS = 64
MAX_ATTRIBUTE_CHARS = 8192

_NAME = re.compile(r"[a-z0-9]{1,64}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]\d\d:\d\d)"
)
_MEDIA = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+\s*(;.*)?", re.ASCII)


class Attributes(Protocol):
    """The attributes of an event; those that may be absent are then None."""

    @property
    def specversion(self) -> str: ...
    @property
    def time(self) -> str | None: ...
    @property
    def datacontenttype(self) -> str | None: ...
    @property
    def extensions(self) -> Mapping[str, str | int | bool]: ...


def check_attributes(event: Attributes) -> None:
    """Raises `InvalidInput` naming the attribute that breaks the specification."""
    if event.specversion != "1.0":
        raise invalid("specversion", "must be '1.0'")
    for name in (*REQUIRED, *OPTIONAL):
        value = getattr(event, name)
        if value is None and name in OPTIONAL:
            continue
        if not isinstance(value, str) or not value:
            raise invalid(name, "must be a text that is not empty")
        _check_text(name, value)
    if event.time is not None and not _TIME.fullmatch(event.time):
        raise invalid("time", "must be a time such as '2026-01-31T12:00:00Z'")
    if event.datacontenttype is not None and not _MEDIA.fullmatch(event.datacontenttype):
        raise invalid("datacontenttype", "must be a content type such as 'image/png'")
    _check_extensions(event.extensions)


def _check_extensions(extensions: Mapping[str, object]) -> None:
    if len(extensions) > MAX_EXTENSIONS:
        raise invalid("event", f"has more than {MAX_EXTENSIONS} extensions")
    for name, value in extensions.items():
        if not _NAME.fullmatch(name) or name in (*CORE, "data"):
            raise invalid(name, "is not an attribute's name (lower-case letters and digits)")
        if isinstance(value, str):
            _check_text(name, value)
        elif not isinstance(value, int) or not -(2**31) <= value < 2**31:
            raise invalid(name, "must be a text, a boolean or a 32-bit whole number")


def _check_text(name: str, value: str) -> None:
    if len(value) > MAX_ATTRIBUTE_CHARS:
        raise invalid(name, f"is longer than {MAX_ATTRIBUTE_CHARS} characters")
    if _CONTROL.search(value):
        raise invalid(name, "holds a character that events must not hold")
