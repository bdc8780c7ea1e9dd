"""Waiting for what another process does: generous, and never longer than needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

WITHIN_S = 45.0
_POLL_S = 0.02


def eventually(condition: Callable[[], T | None], what: str, within_s: float = WITHIN_S) -> T:
    """The first truthy value of `condition`. Fails when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"Waited {within_s:g} s for {what}."
        time.sleep(_POLL_S)
    return found
