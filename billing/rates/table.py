"""Where rate cards are kept: a table of the ledger's database, appended to and never changed."""

from __future__ import annotations

from typing import Literal, Protocol

from dsfn.functions.values import dataclass

Source = Literal["configuration", "set"]


@dataclass(frozen=True, slots=True)
class CardRow:
    """A card as it is kept. `document`: its canonical text, of which `sha256` is."""

    number: int
    effective_from_us: int
    set_at_us: int
    source: Source
    document: str
    sha256: str


class CardTable(Protocol):
    """The cards of one ledger. Belongs to one thread."""

    def rows(self) -> list[CardRow]:
        """All of them, by their numbers. Raises `StoreUnavailable`."""

    def append(self, row: CardRow) -> None:
        """Keeps one more; when it returns it survives `kill -9`. Raises `StorageFull`,
        `StoreUnavailable`."""
