"""The terms of a canary on the command line, and how one is shown."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dsfn.functions.durations import parse_seconds
from dsfn.functions.errors import DefinitionError, InvalidInput, UsageError
from dsfn.runtime.cli.documents import CanaryDocument

if TYPE_CHECKING:
    from dsfn.runtime.canaries.canary import Terms

_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)%?")


def canary_terms(
    percent: int | None,
    promote_after: str | None,
    max_error_rate: str | None,
    max_p99: str | None,
) -> Terms | None:
    """The terms, None for a deployment without a canary. Raises `UsageError`."""
    from dsfn.runtime.canaries.canary import Terms

    said: dict[str, Any] = {}
    if promote_after is not None:
        said["promote_after_s"] = _seconds(promote_after, "--promote-after")
    if max_error_rate is not None:
        match = _PERCENT.fullmatch(max_error_rate)
        if match is None:
            raise UsageError(f"--max-error-rate {max_error_rate!r} is no share, such as 1%.")
        said["max_error_percent"] = float(match[1])
    if max_p99 is not None:
        said["max_p99_us"] = round(_seconds(max_p99, "--max-p99") * 1_000_000)
    if percent is None:
        if said:
            raise UsageError("Only a canary has terms: say --canary PERCENT, too.")
        return None
    try:
        return Terms(percent, **said)
    except InvalidInput as error:
        raise UsageError(error.message) from error


def canary_parameters(terms: Terms | None) -> dict[str, str]:
    """Those of a deployment on these terms."""
    if terms is None:
        return {}
    found = {"canary" if name == "percent" else name: each for name, each in asdict(terms).items()}
    return {name: str(each) for name, each in found.items() if each is not None}


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
