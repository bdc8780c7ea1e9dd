"""Where rate cards are kept: a table of the ledger's database, appended to and never changed."""

from __future__ import annotations

from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from dsfn.billing.queries import QUERIES, SCHEMA
from dsfn.billing.sqlite import connect, transaction

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


class SqliteCards:
    """The cards in the file of an embedded ledger."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self) -> list[CardRow]:
        """All of them, by their numbers."""
        with closing(connect(self._path, SCHEMA)) as connection:
            found: Any = connection.execute(QUERIES["select_cards"])
            return [CardRow(*values) for values in found]

    def append(self, row: CardRow) -> None:
        """Keeps one more. Raises `StorageFull`."""
        with closing(connect(self._path, SCHEMA)) as connection:
            with transaction(connection):
                connection.execute(QUERIES["insert_card"], astuple(row))
