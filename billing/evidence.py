"""What a ledger is held against: keys that are trusted, and checkpoints that are kept elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from dsfn.functions.values import dataclass

# So many checkpoints of each place are compared, those before the last that the database has and
# those after it.
MAX_COMPARED = 1000


class Place(Protocol):
    """Where checkpoints are kept beside the database. Every method raises `StoreUnavailable`."""

    @property
    def name(self) -> str:
        """What the configuration calls it."""

    def put(self, number: int, text: str) -> None:
        """Keeps a checkpoint. One that is there already stays as it is."""

    def since(self, number: int, limit: int) -> Iterable[tuple[int, str]]:
        """The checkpoints from this number on that are there, with their numbers, in order."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """`public_keys`: those, in hex, that may have signed; without any, every key may.
    `has_notary`: somebody signs what the ledger comes to, so that checkpoints must be there."""

    public_keys: frozenset[str] = frozenset()
    places: tuple[Place, ...] = ()
    has_notary: bool = False


NO_EVIDENCE = Evidence()
