"""Reading a ledger in PostgreSQL: in any thread, each read at one instant of the books."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field
from typing import Any

import psycopg

from dsfn.billing.address import Address
from dsfn.billing.postgres import Connection, Watchdog, connect, server_errors
from dsfn.functions.values import dataclass

# Connections that are kept for the next reads.
MAX_IDLE = 4
# Rows that one round trip brings.
_PORTION = 5_000
_names = itertools.count()

Row = tuple[Any, ...]
Parameters = Sequence[object] | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The books of one instant. Belongs to one thread at a time.

    Its methods raise `StoreUnavailable`.
    """

    connection: Connection
    address: Address
    watchdog: Watchdog

    def fetch(self, query: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of a query that gives few."""
        with server_errors(self.address), self.watchdog.watching(self.connection):
            return self.connection.execute(query, parameters).fetchall()

    def stream(self, query: str, parameters: Parameters = ()) -> Iterator[Row]:
        """The rows of a query that gives many, in little memory."""
        with self.connection.cursor(name=f"rows_{next(_names)}", binary=True) as cursor:
            with server_errors(self.address), self.watchdog.watching(self.connection):
                cursor.execute(query, parameters)
            while True:
                with server_errors(self.address), self.watchdog.watching(self.connection):
                    rows = cursor.fetchmany(_PORTION)
                yield from rows
                if len(rows) < _PORTION:
                    return


@dataclass(eq=False)
class Readers:
    """Connections for reading; those that are at rest are kept, a few of them."""

    address: Address
    watchdog: Watchdog
    _idle: list[Connection] = field(default_factory=list)
    _closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The books as they are now. Raises `StoreUnavailable`."""
        connection = self._take()
        try:
            with server_errors(self.address), self.watchdog.watching(connection):
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield Snapshot(connection, self.address, self.watchdog)
        finally:
            self._give_back(connection)

    def fetch(self, query: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of one query. Raises `StoreUnavailable`."""
        with self.snapshot() as books:
            return books.fetch(query, parameters)

    def stream(self, query: str, parameters: Parameters = ()) -> Iterator[Row]:
        """The rows of one query, in little memory. Raises `StoreUnavailable`."""
        with self.snapshot() as books:
            yield from books.stream(query, parameters)

    def close(self) -> None:
        """Closes what is at rest, and what is in use once it is given back."""
        with self._lock:
            self._closed, idle, self._idle = True, self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> Connection:
        """A connection that the server answers on: one at rest may have been cut off."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return connect(self.address)
            with suppress(psycopg.Error), self.watchdog.watching(connection):
                connection.execute("")
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        with suppress(psycopg.Error), self.watchdog.watching(connection):
            if not connection.closed:
                connection.rollback()
        with self._lock:
            if not connection.closed and not self._closed and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()
