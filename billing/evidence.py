"""What a ledger is held against: keys that are trusted, and checkpoints that are kept elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

# Of the checkpoints in a place, the newest are compared.
MAX_COMPARED = 1000


class Place(Protocol):
    """Where checkpoints are kept beside the database. Every method raises `StoreUnavailable`."""

    @property
    def name(self) -> str:
        """What the configuration calls it."""

    def last(self) -> int:
        """The largest number of a checkpoint that is there, 0 while none is."""

    def put(self, number: int, text: str) -> None:
        """Keeps a checkpoint. One that is there already stays as it is."""

    def newest(self, limit: int) -> Iterable[tuple[int, str]]:
        """The last checkpoints that are there, with their numbers, in order."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """`public_keys`: those, in hex, that may have signed; without any, every key may."""

    public_keys: frozenset[str] = frozenset()
    places: tuple[Place, ...] = ()


NO_EVIDENCE = Evidence()
