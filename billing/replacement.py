"""Corrections of what was metered: a row is taken back, and another stands in its place."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from dsfn.billing.usage import STATUSES, Usage
from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass

MAX_REASON_LENGTH = 400
# Calls of these statuses are charged nothing of a restore.
_FREE_OF_CHARGE = ("platform", "rejected")


@dataclass(frozen=True, slots=True)
class Correction:
    """What is to be different about a call, and why; None leaves something as it is.

    The time that it held its device stays: somebody held it. With the status "platform" nobody
    pays for it, nor for its restore. What it is charged of a restore can only become less.
    """

    reason: str
    status: str | None = None
    busy_us: int | None = None
    restore_us: int | None = None


def corrected(usage: Usage, correction: Correction) -> Usage:
    """The row that stands in for another: its id has a number after it, its error is the reason.

    The same correction of the same row is the same row. Raises `UsageError`.
    """
    given: dict[str, Any] = {
        "status": correction.status,
        "busy_us": correction.busy_us,
        "restore_us": correction.restore_us,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    reason = correction.reason
    if not reason.strip() or len(reason) > MAX_REASON_LENGTH or not reason.isprintable():
        raise UsageError(f"A correction needs a reason, of at most {MAX_REASON_LENGTH} characters.")
    if not changes:
        raise UsageError("A correction says what is different: a status, busy_us or restore_us.")
    if correction.status not in (None, *STATUSES):
        raise UsageError(f"status must be one of {', '.join(STATUSES)}.")
    if correction.busy_us is not None and correction.busy_us > usage.held_us:
        raise UsageError(f"busy_us must be at most {usage.held_us}, for which it was held.")
    most_us = 0 if correction.status in _FREE_OF_CHARGE else usage.restore_us
    if changes.setdefault("restore_us", most_us) > most_us:
        raise UsageError(f"restore_us must be at most {most_us}: nobody waited for longer.")
    try:
        # The key stays with the first row: it still is one success.
        return replace(
            usage,
            invocation_id=next_id(usage.invocation_id),
            error=reason,
            idempotency_key="",
            **changes,
        )
    except ValueError as error:
        raise UsageError(f"{error}.") from error


def next_id(invocation_id: str) -> str:
    """The id of the row that stands in for another: "a" is followed by "a.2", that by "a.3"."""
    match = re.fullmatch(r"(.*)\.([0-9]{1,9})", invocation_id)
    return f"{match[1]}.{int(match[2]) + 1}" if match else f"{invocation_id}.2"
