"""PostgreSQL as the ledger uses it: connections with limits, and its errors as those of the tree.

Everything lies in one schema of the database, `dsfn`. A connection belongs to whoever opened it;
locks that it takes are its session's, so a pooler that shares sessions (PgBouncer but for
`pool_mode = session`) must not be in between.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import errors
from psycopg.abc import Buffer
from psycopg.adapt import Loader

from dsfn.billing.address import Address, no_address
from dsfn.functions.errors import StorageFull, StoreUnavailable, UsageError

SCHEMA = "dsfn"
CONNECT_TIMEOUT_S = 10
# Of one statement, by the server. The client gives up a little later: a server that hangs does
# not keep its own time.
STATEMENT_TIMEOUT_S = 20
LOCK_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 25
# A reader that nobody asks for its next rows would keep the server from cleaning up.
IDLE_TIMEOUT_S = 600
RETRY_AFTER_S = 1
MIN_SERVER_VERSION = 140_000
_TICK_S = 1.0
_SETTINGS = {
    "search_path": SCHEMA,
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "lock_timeout": f"{LOCK_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": f"{IDLE_TIMEOUT_S}s",
    "TimeZone": "UTC",
    "client_min_messages": "warning",
    # When the network between is cut, the server lets go of this session's locks.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}

Connection = psycopg.Connection[tuple[Any, ...]]


def connect(address: Address) -> Connection:
    """A connection in autocommit mode whose statements have time limits.

    Raises `StoreUnavailable` when there is none to be had, `UsageError` for a server that cannot
    keep a ledger, and an address that libpq does not understand.
    """
    try:
        with server_errors(address):
            connection = psycopg.connect(
                address.url,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="dsfn",
                keepalives_idle=30,
                keepalives_interval=10,
                keepalives_count=3,
                tcp_user_timeout=ANSWER_TIMEOUT_S * 1000,
            )
    except psycopg.ProgrammingError:
        raise no_address() from None  # which shows what it is
    try:
        # Sums of bigints, which PostgreSQL gives as numeric, are whole.
        connection.adapters.register_loader("numeric", _WholeNumber)
        with server_errors(address):
            settings = ", ".join(f"set_config('{k}', '{v}', false)" for k, v in _SETTINGS.items())
            connection.execute(f"SELECT {settings}")
            _require_durable(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection


class _WholeNumber(Loader):
    def load(self, data: Buffer) -> int:
        return int(bytes(data))


def _require_durable(connection: Connection, address: Address) -> None:
    """Raises `UsageError` for a server that may lose what it said it had, or is too old."""
    row = connection.execute(
        "SELECT current_setting('fsync'), current_setting('synchronous_commit'),"
        " current_setting('server_encoding')"
    ).fetchone()
    fsync, synchronous_commit, encoding = row or ("", "", "")
    if connection.info.server_version < MIN_SERVER_VERSION:
        raise UsageError(
            f"The server of {address} is PostgreSQL {connection.info.server_version // 10_000}; a"
            f" ledger needs {MIN_SERVER_VERSION // 10_000} or newer."
        )
    if fsync != "on":
        raise UsageError(f"The server of {address} has fsync off: it would lose a ledger's rows.")
    if encoding != "UTF8":
        raise UsageError(f"The database {address} has the encoding {encoding}; it must be UTF8.")
    if synchronous_commit == "off":
        connection.execute("SET synchronous_commit = on")


@contextmanager
def server_errors(address: Address) -> Iterator[None]:
    """Turns PostgreSQL's failures into errors of the tree. Those that are about the statement
    itself, such as a key that is there already, pass."""
    try:
        yield
    except errors.DiskFull as error:
        raise StorageFull(
            f"There is no room left for the ledger on the server of {address}."
        ) from (error)
    except errors.InsufficientPrivilege as error:
        raise UsageError(f"{address} refuses what a ledger needs: {_reason(error)}.") from error
    except (
        errors.QueryCanceled,
        errors.LockNotAvailable,
        errors.InsufficientResources,
        errors.ReadOnlySqlTransaction,
        psycopg.OperationalError,
        psycopg.InterfaceError,
    ) as error:
        raise StoreUnavailable(
            f"The ledger {address} does not answer: {_reason(error)}.",
            reason=_reason(error),
            retry_after_s=RETRY_AFTER_S,
        ) from error


def _reason(error: psycopg.Error) -> str:
    """The first line of what the server or its library says, without a full stop."""
    lines = str(error.diag.message_primary or error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


class Watchdog:
    """A thread that cuts connections off whose server hangs: libpq itself waits for ever.

    Time is counted in ticks of this thread.
    """

    def __init__(self, ticks: int = ANSWER_TIMEOUT_S, tick_s: float = _TICK_S) -> None:
        self._ticks = ticks
        self._left: dict[Connection, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(tick_s,), name="ledger-watchdog", daemon=True
        )
        self._thread.start()

    @contextmanager
    def watching(self, connection: Connection) -> Iterator[None]:
        """Cuts the connection off when the block takes too long; what waits for it then gets an
        `OperationalError`."""
        with self._lock:
            self._left[connection] = self._ticks
        try:
            yield
        finally:
            with self._lock:
                self._left.pop(connection, None)

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self, tick_s: float) -> None:
        while not self._stop.wait(tick_s):
            with self._lock:
                for connection in list(self._left):
                    self._left[connection] -= 1
                    if self._left[connection] < 0:
                        del self._left[connection]
                        _cut_off(connection)


def _cut_off(connection: Connection) -> None:
    """Ends a connection's socket under whoever waits for it."""
    with suppress(psycopg.OperationalError, OSError):
        with socket.socket(fileno=socket.dup(connection.fileno())) as twin:
            twin.shutdown(socket.SHUT_RDWR)
