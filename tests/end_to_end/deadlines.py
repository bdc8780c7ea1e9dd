"""Waiting for what another process does: generous, and hardly longer than needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

WITHIN_S = 45.0
# The longer it takes, the less often it is looked at: to look takes the processor from what is
# waited for.
_POLL_S = 0.02
_POLL_AT_MOST_S = 0.25
_POLL_SHARE = 0.05


def eventually(condition: Callable[[], T | None], what: str, within_s: float = WITHIN_S) -> T:
    """The first truthy value of `condition`. Fails when there is none in time."""
    began_s = time.monotonic()
    while not (found := condition()):
        waited_s = time.monotonic() - began_s
        assert waited_s < within_s, f"Waited {within_s:g} s for {what}."
        time.sleep(min(max(_POLL_S, _POLL_SHARE * waited_s), _POLL_AT_MOST_S))
    return found
