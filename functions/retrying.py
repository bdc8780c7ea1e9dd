"""How often a failed attempt is made again, and when: of functions and of steps of workflows."""

from __future__ import annotations

from typing import Literal

from dsfn.functions.durations import check_seconds
from dsfn.functions.errors import DefinitionError

MAX_RETRIES = 100
MAX_BACKOFF_S = 3_600.0
POLICIES = ("linear", "exponential")

Policy = Literal["linear", "exponential"]


def check_retrying(retries: int, backoff_policy: str, backoff_delay_s: float) -> None:
    """Raises `DefinitionError` for what is out of its range."""
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= MAX_RETRIES:
        raise DefinitionError(f"retries must be a whole number from 0 to {MAX_RETRIES}.")
    if backoff_policy not in POLICIES:
        raise DefinitionError(
            f"backoff_policy must be 'linear' or 'exponential', not {backoff_policy!r}."
        )
    check_seconds("backoff_delay", backoff_delay_s, 0, MAX_BACKOFF_S)
