"""The terms of a canary on the command line, and how one is shown."""

from __future__ import annotations

import re

from dsfn.functions.durations import parse_seconds
from dsfn.functions.errors import DefinitionError, UsageError
from dsfn.runtime.cli.documents import CanaryDocument

_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)%?")


def canary_terms(
    percent: int | None,
    promote_after: str | None,
    max_error_rate: str | None,
    max_p99: str | None,
) -> dict[str, str]:
    """The terms as a deployment's parameters, none for a deployment without a canary. Raises
    `UsageError`."""
    terms: dict[str, str] = {}
    if promote_after is not None:
        terms["promote_after_s"] = f"{_seconds(promote_after, '--promote-after'):g}"
    if max_error_rate is not None:
        match = _PERCENT.fullmatch(max_error_rate)
        if match is None:
            raise UsageError(f"--max-error-rate {max_error_rate!r} is no share, such as 1%.")
        terms["max_error_percent"] = match[1]
    if max_p99 is not None:
        terms["max_p99_us"] = str(round(_seconds(max_p99, "--max-p99") * 1_000_000))
    if percent is not None:
        return {"canary": str(percent), **terms}
    if terms:
        raise UsageError("Only a canary has terms: say --canary PERCENT, too.")
    return {}


def canary_words(canary: CanaryDocument) -> str:
    """A canary in a line."""
    counted = f"{canary['calls']} calls, {canary['failed']} failed"
    if canary["max_p99_us"] is not None:
        counted += f", {canary['slow']} slow"
    head = f"{canary['state']}: {canary['revision']}"
    if canary["reason"] is not None:
        return f"{head}, since {canary['reason']}"
    return f"{head}, {counted}, promoted {canary['promote_after_s']:g} s after its start"


def _seconds(text: str, option: str) -> float:
    try:
        return parse_seconds(text, option)
    except DefinitionError as error:
        raise UsageError(error.message) from error
