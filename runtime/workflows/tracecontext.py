"""The place of a run in a trace (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re

TRACEPARENT = "traceparent"
# A later version of the format may add fields at the end.
_VALID = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{0,200})?"
)


def valid_traceparent(text: str | None) -> str | None:
    """A `traceparent` header, or None when it is not one: the specification has it ignored then,
    and no event could carry it."""
    return text if text is not None and _VALID.fullmatch(text) else None
