"""The ledger that the configuration names: a file in the data directory, or in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

from dsfn.billing.ledger import Ledger
from dsfn.billing.spool import Spool, is_empty
from dsfn.billing.spooled_ledger import Database, SpooledLedger
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.sqlite_verify import SqliteBooks
from dsfn.billing.stretches import all_processes
from dsfn.billing.verify import Books
from dsfn.functions.errors import UsageError
from dsfn.runtime.config import Settings
from dsfn.runtime.writer import InlineWriter, ThreadWriter, Writer

FILE_NAME = "ledger.db"
# Calls share commits, so one writer is enough for them; whatever else is written need not wait.
WRITERS = 4


def open_ledger(settings: Settings) -> SpooledLedger:
    """Opens or makes the ledger, with all that waited for it. Raises `UsageError`, also for one
    that was not moved to the database yet, `StoreUnavailable`, `StorageFull`."""
    with ExitStack() as opened:
        database = opened.enter_context(closing(_open_database(settings)))
        # What is in the spool survives what rows in the database survive.
        spool = Spool(settings.data_dir, sync=bool(settings.ledger))
        opened.callback(spool.close)
        ledger = SpooledLedger(database, spool)
        opened.pop_all()
        return ledger


def settle(settings: Settings) -> None:
    """Posts what a node that was killed has left in its spool, and puts aside what of it is
    damaged. Raises as `open_ledger`."""
    if not is_empty(settings.data_dir):
        open_ledger(settings).close()


def _open_database(settings: Settings) -> Database:
    path = settings.data_dir / FILE_NAME
    if not settings.ledger:
        return SqliteLedger(path)
    require_psycopg()
    from dsfn.billing.postgres_ledger import PostgresLedger

    ledger = PostgresLedger(settings.ledger, WRITERS)
    try:
        _require_moved(path, ledger)
    except BaseException:
        ledger.close()
        raise
    return ledger


def writer_of(settings: Settings) -> Writer:
    """What writes to that ledger, or to its spool."""
    return ThreadWriter() if settings.ledger else InlineWriter()


@contextmanager
def open_books(settings: Settings) -> Iterator[Books]:
    """The ledger as a check reads it, whether a node writes it or not. Raises `UsageError` when
    there is none, `StoreUnavailable`."""
    if settings.ledger:
        require_psycopg()
        from dsfn.billing import postgres_verify

        with postgres_verify.open_books(settings.ledger, all_processes()) as books:
            yield books
        return
    path = settings.data_dir / FILE_NAME
    if not path.exists():
        raise UsageError(f"There is no ledger in {settings.data_dir}.")
    yield SqliteBooks(path, all_processes())


def require_psycopg() -> None:
    """Raises `UsageError` when what speaks to PostgreSQL is not installed."""
    if find_spec("psycopg") is None:
        raise UsageError(
            "A ledger in PostgreSQL needs psycopg, which is not installed: run"
            " `pip install 'dsfn[postgres]'`."
        )


def _require_moved(path: Path, ledger: Ledger) -> None:
    """Raises `UsageError` when all rows are in the file still."""
    if path.exists() and not _rows(ledger.books()) and _rows(SqliteBooks(path)):
        raise UsageError(
            f"The ledger of this directory is in {path}, and billing.ledger names a database that"
            " is empty: move it there with `dsfn ledger migrate --to postgresql://...`."
        )


def _rows(books: Books) -> int:
    with books.snapshot() as snapshot:
        return sum(head.seq for _, head in snapshot.heads())
