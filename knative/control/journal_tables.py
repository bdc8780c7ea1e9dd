"""The journal of the control service in PostgreSQL: changesets, a copy, and whose turn it is.

Whoever takes over raises the epoch. An append looks for its own epoch in the statement that writes,
and finds none once another leader has begun: it is fenced, however late it wakes up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import field

from dsfn.billing.address import Address
from dsfn.billing.postgres import Connection, Watchdog, connect, server_errors
from dsfn.billing.postgres_chain import LOCK as LEDGER_LOCK
from dsfn.billing.sqlite import load_queries
from dsfn.functions.errors import StoreUnavailable, UsageError
from dsfn.functions.values import dataclass

# All of the leader waits for an append: it would rather refuse than wait for long.
APPEND_TIMEOUT_S = 3
PART_BYTES = 4 << 20
# Of the advisory lock of a leader's sessions: "dsfc" in ASCII.
_LOCK = 0x64736663
_QUERIES = load_queries("dsfn.knative.control", "sql/journal.sql")
_ROWS = 100


class Fenced(StoreUnavailable):
    """Another leader has taken over."""


@dataclass(eq=False)
class JournalTables:
    """The tables as one leader sees them. `append` belongs to one thread, `rejoin` and `put_copy`
    to another.

    Every method raises `StoreUnavailable` when the server does not answer, and `Fenced` once there
    is another leader.
    """

    address: Address
    epoch: int
    watchdog: Watchdog = field(default_factory=lambda: Watchdog(APPEND_TIMEOUT_S))
    _connection: Connection | None = field(default=None, repr=False)

    @classmethod
    def take_over(cls, address: Address) -> JournalTables:
        """The tables, made if need be; from now on no other leader writes to them, nor to the
        ledger. Raises `UsageError` for a server that cannot keep them."""
        with _session(address) as connection:
            if not _value(connection, "has_schema"):
                connection.execute(_QUERIES["schema"])
            connection.execute(_QUERIES["end_leaders"], {"locks": [_LOCK, LEDGER_LOCK]})
            epoch = _value(connection, "raise_epoch")
        assert epoch is not None
        return cls(address, epoch)

    def append(self, seq: int, changeset: bytes) -> None:
        """Makes a transaction durable. After `StoreUnavailable` it may be there or not, and
        `rejoin` must come before the next."""
        values = {"seq": seq, "changeset": changeset, "epoch": self.epoch}
        try:
            if self._connection is None:
                raise StoreUnavailable("The journal is not connected.", retry_after_s=1)
            with server_errors(self.address), self.watchdog.watching(self._connection):
                written = self._connection.execute(_QUERIES["append"], values).rowcount
        except BaseException:
            self._disconnect()
            raise
        if not written:
            raise self._fenced()

    def rejoin(self, seq: int) -> None:
        """Connects, and takes back what came after transaction `seq`: whoever asked for it was told
        that it failed. With an epoch of its own, as the connection before may have an append left
        to do."""
        self._disconnect()
        connection = _connect(self.address)
        try:
            with server_errors(self.address), connection.transaction():
                epoch = _value(connection, "raise_own_epoch", epoch=self.epoch)
                if epoch is None:
                    raise self._fenced()
                connection.execute(_QUERIES["take_back"], {"seq": seq})
        except BaseException:
            connection.close()
            raise
        self.epoch, self._connection = epoch, connection

    def put_copy(self, seq: int, parts: Iterable[bytes]) -> None:
        """Keeps a copy of the database after transaction `seq`, and forgets what came before."""
        with _session(self.address) as connection:
            if _value(connection, "hold_epoch", epoch=self.epoch) is None:
                raise self._fenced()
            connection.execute(_QUERIES["drop_copies"])
            for part, content in enumerate(parts):
                values = {"seq": seq, "part": part, "content": content}
                connection.execute(_QUERIES["put_part"], values)
            connection.execute(_QUERIES["forget"], {"seq": seq})

    def newest_copy(self) -> tuple[int, Iterator[bytes]]:
        """The last copy: after which transaction it was made, and its parts. 0 and none at the
        very start."""
        with _session(self.address) as connection:
            seq = _value(connection, "newest_copy") or 0
        return seq, self._parts(seq)

    def changesets(self, after: int) -> Iterator[bytes]:
        """Those after transaction `after`, in order. Raises `UsageError` where one is missing."""
        with _session(self.address) as connection, connection.cursor("changesets") as cursor:
            cursor.itersize = _ROWS
            cursor.execute(_QUERIES["changesets"], {"seq": after})
            for expected, (seq, changeset) in enumerate(cursor, after + 1):
                if seq != expected:
                    raise UsageError(f"Transaction {expected} is missing in {self.address}.")
                yield changeset

    def close(self) -> None:
        """Lets go of the server."""
        self._disconnect()
        self.watchdog.close()

    def _parts(self, seq: int) -> Iterator[bytes]:
        with _session(self.address) as connection, connection.cursor("parts") as cursor:
            cursor.itersize = 1
            cursor.execute(_QUERIES["parts"], {"seq": seq})
            for (content,) in cursor:
                yield content

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _fenced(self) -> Fenced:
        return Fenced("Another leader of the control service has taken over.", retry_after_s=1)


def _connect(address: Address) -> Connection:
    connection = connect(address)
    try:
        with server_errors(address):
            connection.execute(_QUERIES["is_here"], {"lock": _LOCK})
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _session(address: Address) -> Iterator[Connection]:
    """One transaction on a connection of its own."""
    with _connect(address) as connection, server_errors(address), connection.transaction():
        yield connection


def _value(connection: Connection, query: str, **values: object) -> int | None:
    """The first value of the first row, None where there is no row."""
    row = connection.execute(_QUERIES[query], values).fetchone()
    found: int | None = row[0] if row else None
    return found
