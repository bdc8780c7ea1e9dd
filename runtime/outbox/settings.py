"""Where usage is sent: the configuration's `[billing.outbox.NAME]` tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, Literal, get_args

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass

Format = Literal["batch", "single"]
MAX_SINKS = 8
_FORMATS: tuple[str, ...] = get_args(Format)
_NAME = re.compile("[a-z0-9][a-z0-9-]{0,62}")
_HEADER = re.compile("[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """One receiver of usage. `name`: what its progress is kept under. `headers`: sent with every
    request, such as a key. `format`: many events in a request, or one."""

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    format: Format = "batch"


def read_sinks(value: object) -> tuple[SinkSettings, ...]:
    """The receivers of the `[billing.outbox]` table. Raises `UsageError` that names the key."""
    table = _table(value, "billing.outbox")
    if len(table) > MAX_SINKS:
        raise UsageError(f"billing.outbox has more than {MAX_SINKS} receivers.")
    return tuple(_sink(name, entry) for name, entry in table.items())


def _sink(name: str, value: object) -> SinkSettings:
    key = f"billing.outbox.{name}"
    if not _NAME.fullmatch(name):
        raise UsageError(f"{key}: a receiver's name has small letters, digits and dashes.")
    table = _table(value, key)
    known = [f.name for f in fields(SinkSettings) if f.name != "name"]
    for entry in table:
        if entry not in known:
            raise UsageError(f"{key}.{entry} is not a setting; there are {', '.join(known)}.")
    url = table.get("url")
    if not isinstance(url, str) or not re.fullmatch(r"https?://[^/\s]+\S*", url):
        raise UsageError(f"{key}.url must be an http(s) URL.")
    return SinkSettings(name, url, _headers(table.get("headers", {}), key), _format(table, key))


def _format(table: Mapping[str, Any], key: str) -> Format:
    chosen = table.get("format", "batch")
    for each in get_args(Format):
        if chosen == each:
            found: Format = each
            return found
    raise UsageError(f"{key}.format must be one of {', '.join(_FORMATS)}.")


def _headers(value: object, key: str) -> Mapping[str, str]:
    headers = _table(value, f"{key}.headers")
    for name, text in headers.items():
        if not _HEADER.fullmatch(name):
            raise UsageError(f"{key}.headers: {name!r} is not the name of a header.")
        if not isinstance(text, str) or not (text.isascii() and text.isprintable()):
            # The value is not shown: most are secrets.
            raise UsageError(f"{key}.headers.{name} must be a text of printable ASCII.")
    return headers


def _table(value: object, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{key} must be a table.")
    return value
