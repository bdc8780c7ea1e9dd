"""The libraries that a fork server imports ahead for its workers, where they are installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dsfn.functions.errors import UsageError

LIBRARIES = ("pydantic", "torch", "numpy", "PIL.Image", "soundfile", "safetensors")
_VARIABLE = "DSFN_LIBRARIES"


def chosen_libraries(entry: str, names: Sequence[str]) -> tuple[str, ...]:
    """Those that a configuration's `entry` names. Raises `UsageError` for one that no worker can be
    born with."""
    if unknown := set(names) - set(LIBRARIES):
        raise UsageError(f"{entry} names {min(unknown)!r}, which no worker is born with.")
    return tuple(names)


def told_libraries(environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """Those that a pod's environment names; None where it says nothing. Raises `UsageError`."""
    text = environ.get(_VARIABLE)
    if text is None:
        return None
    return chosen_libraries(_VARIABLE, [name for name in text.split(",") if name])
