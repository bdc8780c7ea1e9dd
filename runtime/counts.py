"""Where calls are counted, told without the library that counts them."""

from __future__ import annotations

from typing import Protocol

from dsfn.billing.usage import Status
from dsfn.runtime.model import Answer


class Counts(Protocol):
    """Counts of the calls of functions that exist."""

    def answered(self, function: str, answer: Answer) -> None:
        """Counts a call that was answered."""

    def failed(self, function: str, error: str, status: Status = "failed") -> None:
        """Counts a call that was not. `error`: the class's name."""
