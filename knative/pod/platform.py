"""Calls that the control service makes: who pays for them and what they are part of.

A pod's own callers are on its tenant's account. The control service knows better, and says so in
a header beside its key: of nobody else is that believed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from hmac import compare_digest
from typing import Any

from dsfn.functions.errors import Forbidden, MalformedBody
from dsfn.functions.values import dataclass
from dsfn.runtime.model import Call, Origin

HEADER = b"dsfn-call"
MAX_CHARS = 4096
_FIELDS = ("id", "tenant", "key_id", "caller", "idempotency_key", "max_cost_nano")


@dataclass(frozen=True, slots=True)
class Said:
    """What the control service says. `whole`: it wants a stream as one body."""

    call: Call
    whole: bool


def call_headers(call: Call, api_key: str, whole: bool = False) -> dict[str, str]:
    """What a request for a call of the control service has beside its body."""
    said: dict[str, Any] = {name: getattr(call, name) for name in _FIELDS}
    said["whole"] = whole
    said["origin"] = None if call.origin is None else asdict(call.origin)
    return {HEADER.decode(): json.dumps(said), "authorization": f"Bearer {api_key}"}


def as_said(call: Call, headers: Mapping[bytes, bytes], api_key: str) -> Said:
    """The call, with what the control service says of it. Raises `Forbidden` when that is said
    without its key, `MalformedBody`."""
    given = headers.get(b"authorization", b"")
    if not api_key or not compare_digest(given, f"Bearer {api_key}".encode()):
        raise Forbidden("Only the control service may say who calls.")
    try:
        said = json.loads(headers[HEADER][: MAX_CHARS + 1])
        origin = said.pop("origin")
        known = None if origin is None else Origin(**origin)
        told = replace(call, **{name: said[name] for name in _FIELDS}, origin=known)
        return Said(told, said["whole"] is True)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise MalformedBody("The header Dsfn-Call does not say what a call is.") from None
