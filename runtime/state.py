"""Where a node keeps what it must know after its end, beside the ledger: a SQLite database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import apsw

from dsfn.billing.sqlite import Checkpointer, connect

FILE_NAME = "node.db"


class State(Protocol):
    """A node's database."""

    @property
    def connection(self) -> apsw.Connection:
        """The one that writes."""

    def keep(self) -> None:
        """All tables are there: what is committed from now on must outlast the node."""

    def close(self) -> None:
        """The node has ended."""


OpenState = Callable[[Path], State]


class DiskState:
    """A node's database on its own disk."""

    def __init__(self, path: Path) -> None:
        """Raises `UsageError` when the file is no database, `StorageFull`."""
        self.connection = connect(path, "")
        self._checkpointer = Checkpointer(path)

    def keep(self) -> None:
        """Nothing is left to do: the file is there after the end of the node."""

    def close(self) -> None:
        """See `State`."""
        self.connection.close()
        self._checkpointer.close()
