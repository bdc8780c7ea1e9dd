"""The ledger's connections to PostgreSQL, and the migrations of its schema."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from postgres_server import PostgresServer

from dsfn.billing import postgres_migrations
from dsfn.billing.address import Address
from dsfn.billing.postgres import Watchdog, connect, server_errors
from dsfn.billing.postgres_migrations import Migration, known_migrations, migrate
from dsfn.billing.postgres_reading import Readers
from dsfn.functions.errors import StorageFull, StoreUnavailable, UsageError


@pytest.fixture
def address(database: str) -> Address:
    return Address(database)


@pytest.fixture
def readers(address: Address) -> Iterator[Readers]:
    watchdog = Watchdog(ticks=4, tick_s=0.1)
    opened = Readers(address, watchdog)
    yield opened
    opened.close()
    watchdog.close()


@pytest.mark.parametrize(
    "url",
    ["mysql://host/db", "postgresql://host", "postgresql:///", "ledger.db", "postgresql://h:x/d"],
)
def test_an_address_that_is_none_is_refused_without_showing_what_it_is(url: str) -> None:
    with pytest.raises(UsageError, match=r"not postgresql://USER@HOST:PORT/DATABASE") as refused:
        Address(url)
    assert url not in refused.value.message


def test_an_address_that_libpq_does_not_understand_is_refused_without_showing_it() -> None:
    for wrong in ("?secret=1", "?sslmode", "%zz"):
        with pytest.raises(
            UsageError, match=r"not postgresql://USER@HOST:PORT/DATABASE"
        ) as refused:
            connect(Address(f"postgresql://127.0.0.1:1/books{wrong}"))
        assert wrong not in str(refused.value) and refused.value.__suppress_context__


def test_a_password_is_never_shown() -> None:
    address = Address("postgresql://me:secret@10.0.0.1:5433/books")
    assert str(address) == "books at 10.0.0.1:5433"
    assert "secret" not in repr(address)


@pytest.mark.parametrize(
    ("url", "is_alone"),
    [
        ("postgresql://me@/books", True),
        ("postgresql:///books?host=/run/postgresql", True),
        ("postgresql://%2Frun%2Fpostgresql/books", True),
        ("postgresql://db/books?host=@socket", True),
        ("postgresql:///books?host=db,", True),
        ("postgresql://db/books", False),
        ("postgresql:///books?host=db", False),
        ("postgresql:///books?hostaddr=10.0.0.1&host=/run/postgresql", False),
        ("postgresql://me@[fd00::1]:5432/books", False),
    ],
)
def test_an_address_tells_whether_other_machines_reach_it(url: str, is_alone: bool) -> None:
    assert Address(url).is_of_this_machine_alone is is_alone


def test_a_server_that_is_not_there_is_said_in_a_sentence() -> None:
    address = Address("postgresql://me:secret@127.0.0.1:1/books")
    with pytest.raises(StoreUnavailable, match=r"The ledger books at 127\.0\.0\.1:1 does") as lost:
        connect(address)
    assert "secret" not in str(lost.value.to_document())
    assert lost.value.fields["retry_after_s"] == 1


def test_every_statement_has_a_time_limit(address: Address) -> None:
    with connect(address) as connection:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        limits = [connection.execute(f"SHOW {name}").fetchone() for name in names]
        assert limits == [("20s",), ("10s",), ("10min",)]
        connection.execute("SET statement_timeout = 50")
        with pytest.raises(StoreUnavailable, match="statement timeout"), server_errors(address):
            connection.execute("SELECT pg_sleep(10)")


def test_commits_are_durable_whatever_the_database_is_set_to(address: Address) -> None:
    with psycopg.connect(address.url, autocommit=True) as other:
        name = other.info.dbname
        other.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    with connect(address) as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_a_server_that_may_lose_commits_or_cannot_keep_every_text_is_refused(
    any_postgres: PostgresServer, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(any_postgres.base_url, autocommit=True) as other:
        other.execute(
            "CREATE DATABASE only_latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
            " TEMPLATE template0"
        )
    latin = Address(address.url.rpartition("/")[0] + "/only_latin")
    try:
        with pytest.raises(UsageError, match="has the encoding LATIN1; it must be UTF8"):
            connect(latin)
    finally:
        any_postgres.drop_database(latin.url)
    monkeypatch.setattr("dsfn.billing.postgres.MIN_SERVER_VERSION", 990_000)
    with pytest.raises(UsageError, match="a ledger needs 99 or newer"):
        connect(address)


def test_a_disk_of_the_server_without_room_is_storage_full(address: Address) -> None:
    with connect(address) as connection, pytest.raises(StorageFull), server_errors(address):
        connection.execute("DO $$ BEGIN RAISE EXCEPTION SQLSTATE '53100'; END $$")


def test_a_server_that_hangs_is_waited_for_no_longer_than_the_limit(
    postgres: PostgresServer, readers: Readers
) -> None:
    assert readers.fetch("SELECT 1") == [(1,)]
    with readers.snapshot() as books:
        postgres.pause()
        try:
            started_s = time.monotonic()
            with pytest.raises(StoreUnavailable):
                books.fetch("SELECT 1")
            assert time.monotonic() - started_s < 5
        finally:
            postgres.resume()
    assert readers.fetch("SELECT 1") == [(1,)]


def test_reads_go_on_after_the_server_was_killed_and_is_back(
    postgres: PostgresServer, readers: Readers
) -> None:
    assert readers.fetch("SELECT 1") == [(1,)]
    postgres.kill()
    with pytest.raises(StoreUnavailable):
        readers.fetch("SELECT 1")
    postgres.start()
    assert readers.fetch("SELECT 1") == [(1,)]


def test_many_rows_are_read_in_portions_of_one_instant(readers: Readers) -> None:
    with connect(readers.address) as connection:
        connection.execute("CREATE SCHEMA dsfn")
        connection.execute("CREATE TABLE numbers AS SELECT generate_series(1, 12345) AS n")
        rows = readers.stream("SELECT n FROM numbers ORDER BY n")
        assert next(rows) == (1,)
        connection.execute("DELETE FROM numbers")
        assert [n for (n,) in rows] == list(range(2, 12346))


def test_the_schema_is_made_once_however_many_begin_at_once(address: Address) -> None:
    barrier = threading.Barrier(6)

    def open_and_migrate() -> None:
        with connect(address) as connection:
            barrier.wait(timeout=30)
            migrate(connection, address)

    with ThreadPoolExecutor(6) as threads:
        for each in [threads.submit(open_and_migrate) for _ in range(6)]:
            each.result()
    with connect(address) as connection:
        applied = connection.execute("SELECT number, name FROM migrations ORDER BY 1").fetchall()
    assert applied == [(each.number, each.name) for each in known_migrations()]


def test_migrations_are_numbered_from_one_without_gaps() -> None:
    numbers = [each.number for each in known_migrations()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_schema_of_a_newer_version_is_refused(address: Address) -> None:
    with connect(address) as connection:
        migrate(connection, address)
        connection.execute("INSERT INTO migrations VALUES (900, 'later', '')")
        with pytest.raises(UsageError, match=r"written by a newer dsfn .*at 900"):
            migrate(connection, address)


def test_a_schema_that_another_file_made_is_refused(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(address) as connection:
        migrate(connection, address)
        other = (Migration(1, "ledger", "SELECT 1"), *known_migrations()[1:])
        monkeypatch.setattr(postgres_migrations, "known_migrations", lambda: other)
        with pytest.raises(UsageError, match=r"made by another file 1 \(ledger\)"):
            migrate(connection, address)


def test_a_migration_that_fails_leaves_nothing_behind(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = known_migrations()
    wrong = Migration(len(known) + 1, "wrong", "CREATE TABLE half (n int); SELECT 1 / 0")
    with connect(address) as connection:
        with monkeypatch.context() as patch:
            patch.setattr(postgres_migrations, "known_migrations", lambda: (*known, wrong))
            with pytest.raises(psycopg.errors.DivisionByZero):
                migrate(connection, address)
        assert connection.execute("SELECT to_regclass('dsfn.half')").fetchone() == (None,)
        migrate(connection, address)
