"""What rows are posted to: the two ledgers, and beside each a plain table of the same database."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, Protocol

import psycopg

from benchmarks.postgres import PostgresServer
from dsfn.billing.postgres_ledger import PostgresLedger
from dsfn.billing.sqlite import Checkpointer, connect, transaction
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage

Store = Literal["sqlite", "postgresql"]
STORES: tuple[Store, ...] = ("sqlite", "postgresql")
KEEPS = {"sqlite": "kill -9", "postgresql": "power cut"}

_FIELDS = tuple(Usage.__dataclass_fields__)
_values = attrgetter(*_FIELDS)
_NUMBERS = {"started_at_us", "busy_us", "held_us", "restore_us", "devices"}
_COLUMNS = ", ".join(f"{name} {'bigint' if name in _NUMBERS else 'text'}" for name in _FIELDS)
_TABLE = f"CREATE TABLE IF NOT EXISTS calls ({_COLUMNS}, PRIMARY KEY (invocation_id))"


class Poster(Protocol):
    """Keeps rows; may be asked by several threads at once."""

    def post(self, rows: Sequence[Usage], /) -> None:
        """Returns when all of them are committed."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where databases are made: a directory, and a server of PostgreSQL where there is one."""

    directory: Path
    server: PostgresServer | None

    def make(self, store: Store, name: str) -> str:
        """A new database: its address, for `open_ledger`."""
        if self.server is None or store == "sqlite":
            return str(self.directory / f"{name}.db")
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as connection:
            connection.execute(
                f"CREATE DATABASE \"{name}\" ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"
            )
        return self.server.url(name)

    def drop(self, address: str) -> None:
        """Takes a database away, which nobody has open."""
        if self.server is None or not is_url(address):
            for path in self.directory.glob(f"{Path(address).name}*"):
                path.unlink()
            return
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{address.rpartition("/")[2]}" WITH (FORCE)')


def is_url(address: str) -> bool:
    """Whether it is of a database on a server, not of a file."""
    return address.startswith("postgresql:")


@contextmanager
def open_ledger(address: str, writers: int = 1) -> Iterator[SqliteLedger | PostgresLedger]:
    """The ledger at an address."""
    ledger = PostgresLedger(address, writers) if is_url(address) else SqliteLedger(Path(address))
    with closing(ledger):
        yield ledger


@contextmanager
def open_plain(address: str, writers: int) -> Iterator[Poster]:
    """A table with the fields of a call and a key, which promises what the ledger promises."""
    with ExitStack() as stack:
        if not is_url(address):
            yield stack.enter_context(closing(_PlainSqlite(Path(address))))
            return
        connections: SimpleQueue[psycopg.Connection[Any]] = SimpleQueue()
        for _ in range(writers):
            connections.put(stack.enter_context(psycopg.connect(address, autocommit=True)))
        connection = connections.get()
        connection.execute(_TABLE)
        connections.put(connection)
        yield _PlainPostgres(connections)


class _PlainSqlite:
    """One connection with the ledger's settings, and its thread that syncs every second."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path, _TABLE)
        self._checkpointer = Checkpointer(path)
        self._turn = threading.Lock()
        self._insert = f"INSERT INTO calls VALUES ({', '.join('?' * len(_FIELDS))})"

    def post(self, rows: Sequence[Usage], /) -> None:
        """Inserts them in one transaction."""
        with self._turn, transaction(self._connection) as connection:
            connection.executemany(self._insert, map(_values, rows))

    def close(self) -> None:
        """Lets go of the file."""
        self._connection.close()
        self._checkpointer.close()


class _PlainPostgres:
    """A connection for each writer, and psycopg's `executemany` in one transaction: of 1,000 rows
    it was almost twice as fast as arrays in `unnest`, and four times as fast as one INSERT with
    20,000 values."""

    def __init__(self, connections: SimpleQueue[psycopg.Connection[Any]]) -> None:
        self._connections = connections
        self._insert = f"INSERT INTO calls VALUES ({', '.join(['%s'] * len(_FIELDS))})".encode()

    def post(self, rows: Sequence[Usage], /) -> None:
        """Inserts them in one transaction."""
        connection = self._connections.get()
        try:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(self._insert, map(_values, rows))
        finally:
            self._connections.put(connection)
