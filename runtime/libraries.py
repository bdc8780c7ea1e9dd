"""The libraries that a fork server imports ahead for its workers, where they are installed."""

from __future__ import annotations

from collections.abc import Sequence

from dsfn.functions.errors import UsageError

LIBRARIES = ("pydantic", "torch", "numpy", "PIL.Image", "soundfile", "safetensors")


def chosen_libraries(entry: str, names: Sequence[str]) -> tuple[str, ...]:
    """Those that a configuration's `entry` names. Raises `UsageError` for one that no worker can be
    born with."""
    if unknown := set(names) - set(LIBRARIES):
        raise UsageError(f"{entry} names {min(unknown)!r}, which no worker is born with.")
    return tuple(names)
