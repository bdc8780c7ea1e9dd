"""Names in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

# Names that a sentence lists before it says how many more there are.
MAX_NAMED = 6


def listed(names: Sequence[str]) -> str:
    """Such as "a, b and c"; of more than `MAX_NAMED` the first, and how many more there are."""
    if len(names) > MAX_NAMED:
        return f"{', '.join(names[:MAX_NAMED])} and {len(names) - MAX_NAMED} more"
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)
