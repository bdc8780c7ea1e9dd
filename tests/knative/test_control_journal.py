"""What the control service has committed outlasts it, and nobody commits beside its leader."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest
from deadlines import eventually
from postgres_server import PostgresServer

from dsfn.billing.address import Address
from dsfn.billing.sqlite import transaction
from dsfn.functions.errors import StoreUnavailable, UsageError
from dsfn.knative.control import journal
from dsfn.knative.control.journal import JournaledState, restore
from dsfn.knative.control.journal_tables import Fenced, JournalTables

WRITER = Path(__file__).parent / "journal_writer.py"
KILLS = 20
SCHEMA = """
CREATE TABLE IF NOT EXISTS parents (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS children (
    name TEXT PRIMARY KEY, parent INTEGER REFERENCES parents (id) ON DELETE CASCADE, body BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (kind TEXT PRIMARY KEY, rows INTEGER NOT NULL);
INSERT OR IGNORE INTO counts VALUES ('parents', 0);
CREATE TRIGGER IF NOT EXISTS count_up AFTER INSERT ON parents
BEGIN UPDATE counts SET rows = rows + 1; END;
CREATE TRIGGER IF NOT EXISTS count_down AFTER DELETE ON parents
BEGIN UPDATE counts SET rows = rows - 1; END;
"""


def took_over(url: str, path: Path, schema: str = SCHEMA) -> JournaledState:
    """A new leader's database."""
    path.parent.mkdir(exist_ok=True)
    state = restore(path, JournalTables.take_over(Address(url)), lambda _: None)
    state.connection.execute(schema)
    state.keep()
    return state


@pytest.fixture
def lead(database: str, tmp_path: Path) -> Iterator[Callable[[], JournaledState]]:
    """Has a leader take over; all are ended with the test."""
    states: list[JournaledState] = []

    def start() -> JournaledState:
        states.append(took_over(database, tmp_path / str(len(states)) / "node.db"))
        return states[-1]

    yield start
    for state in states:
        state.close()


def contents(connection: apsw.Connection) -> dict[str, list[Any]]:
    """All rows of all tables."""
    names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    return {
        str(name): sorted(connection.execute(f"SELECT * FROM {name}"))
        for (name,) in connection.execute(names).fetchall()
    }


def add(state: JournaledState, name: str) -> None:
    with transaction(state.connection) as connection:
        connection.execute("INSERT INTO parents (name) VALUES (?)", (name,))


def names(state: JournaledState) -> list[str]:
    return [name for (name,) in state.connection.execute("SELECT name FROM parents ORDER BY id")]


def change(connection: apsw.Connection, chance: random.Random) -> None:
    """Some change of some rows, a cascade and a trigger among them."""
    number = chance.randrange(30)
    match chance.randrange(5):
        case 0 | 1:
            connection.execute("INSERT OR IGNORE INTO parents (name) VALUES (?)", (str(number),))
        case 2:
            connection.execute("DELETE FROM parents WHERE name = ?", (str(number),))
        case 3:
            values = (f"c{number}", chance.randbytes(chance.randrange(2000)))
            connection.execute(
                "INSERT INTO children SELECT ?1, max(id), ?2 FROM parents WHERE true"
                " ON CONFLICT DO UPDATE SET body = excluded.body",
                values,
            )
        case 4:
            connection.execute("UPDATE children SET name = name || 'x' WHERE parent % 7 = 1")


@pytest.mark.parametrize("seed", range(5))
def test_another_leader_finds_every_row_as_it_was(
    lead: Callable[[], JournaledState], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "COPY_AFTER_TRANSACTIONS", 25)
    monkeypatch.setattr(journal, "_COPY_AGAIN_S", 0.0)
    chance = random.Random(seed)
    for _ in range(3):
        state = lead()
        for _ in range(60):
            with suppress(ZeroDivisionError), transaction(state.connection) as connection:
                for _ in range(chance.randrange(5)):
                    change(connection, chance)
                if chance.randrange(5) == 0:
                    raise ZeroDivisionError
        before = contents(state.connection)
        after = contents(lead().connection)
        assert after == before
    assert before["parents"] and before["children"]


def test_a_journal_stays_short(
    lead: Callable[[], JournaledState], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "COPY_AFTER_TRANSACTIONS", 10)
    monkeypatch.setattr(journal, "_COPY_AGAIN_S", 0.0)
    state = lead()
    for number in range(30):
        add(state, str(number))

    def rows() -> int:
        with psycopg.connect(database) as connection:
            found: Any = connection.execute("SELECT count(*) FROM dsfn_control.journal").fetchone()
            return int(found[0])

    eventually(lambda: rows() < 10, "the journal to be shortened")
    assert names(lead()) == [str(number) for number in range(30)]


def test_a_leader_that_was_followed_commits_nothing_more(
    lead: Callable[[], JournaledState],
) -> None:
    first = lead()
    add(first, "one")
    second = lead()
    with pytest.raises(StoreUnavailable):
        add(first, "two")
    assert names(first) == ["one"]
    add(second, "three")
    assert names(second) == ["one", "three"]
    assert names(lead()) == ["one", "three"]


def test_an_append_of_an_older_epoch_is_refused_by_the_server_itself(
    lead: Callable[[], JournaledState], database: str
) -> None:
    state = lead()
    add(state, "one")
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE dsfn_control.epoch SET epoch = epoch + 1")
    with pytest.raises(Fenced):
        add(state, "two")
    assert names(state) == names(lead()) == ["one"]


def test_what_goes_past_the_journal_is_refused(lead: Callable[[], JournaledState]) -> None:
    state = lead()
    with pytest.raises(apsw.ConstraintError):
        state.connection.execute("INSERT INTO parents (name) VALUES ('beside')")
    add(state, "one")
    assert names(state) == names(lead()) == ["one"]


def test_a_table_without_a_key_is_refused(database: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="keyless has no primary key"):
        took_over(database, tmp_path / "node.db", "CREATE TABLE keyless (a)")


def test_while_the_server_is_away_nothing_is_committed_and_then_it_goes_on(
    lead: Callable[[], JournaledState], postgres: PostgresServer
) -> None:
    state = lead()
    add(state, "before")
    postgres.kill()
    for _ in range(3):
        began_s = time.monotonic()
        with pytest.raises(StoreUnavailable):
            add(state, "meanwhile")
        assert time.monotonic() - began_s < 1
    assert names(state) == ["before"]
    postgres.start()
    eventually(lambda: added(state, "after"), "the journal to be written again")
    assert names(state) == names(lead()) == ["before", "after"]


def test_a_server_that_hangs_holds_a_transaction_up_for_seconds_and_what_it_did_is_taken_back(
    lead: Callable[[], JournaledState], postgres: PostgresServer
) -> None:
    state = lead()
    add(state, "before")
    postgres.pause()
    try:
        began_s = time.monotonic()
        with pytest.raises(StoreUnavailable):
            add(state, "meanwhile")
        assert time.monotonic() - began_s < 8
        with pytest.raises(StoreUnavailable):
            add(state, "meanwhile")
    finally:
        postgres.resume()
    eventually(lambda: added(state, "after"), "the journal to be written again", 60)
    assert names(state) == names(lead()) == ["before", "after"]


def added(state: JournaledState, name: str) -> bool:
    with suppress(StoreUnavailable):
        add(state, name)
        return True
    return False


def test_what_sqlite_could_not_commit_is_taken_back(
    lead: Callable[[], JournaledState], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = lead()
    add(state, "before")
    with pytest.raises(apsw.ConstraintError), monkeypatch.context() as patch:
        # The disk may be full at that moment.
        patch.setattr(JournaledState, "_refuses", lambda _: True)
        state.connection.set_commit_hook(state._refuses)
        add(state, "lost")
    state.connection.set_commit_hook(None)
    eventually(lambda: added(state, "after"), "the journal to be written again")
    assert names(state) == names(lead()) == ["before", "after"]


# Leaders in processes of their own.


@contextmanager
def writer(database: str, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    place.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, WRITER, database, place / "node.db"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def told(process: subprocess.Popen[bytes], count: int) -> list[int]:
    """The next numbers that it told of."""
    assert process.stdout is not None
    return [int(process.stdout.readline()) for _ in range(count)]


def rest(process: subprocess.Popen[bytes]) -> list[int]:
    """What it had told when it ended."""
    assert process.stdout is not None
    return [int(line) for line in process.stdout.read().split(b"\n")[:-1]]


def require_complete(database: str, place: Path, last: int) -> None:
    """All numbers up to `last` are there, once; what comes next may be."""
    state = took_over(database, place / "node.db", "")
    try:
        numbers = [n for (n,) in state.connection.execute("SELECT number FROM counted ORDER BY 1")]
        total = state.connection.execute("SELECT sum FROM total").get
    finally:
        state.close()
    assert numbers == list(range(1, len(numbers) + 1))
    assert last <= len(numbers) <= last + 1
    assert total == sum(numbers)


def test_leaders_that_are_killed_lose_nothing_and_do_nothing_twice(
    database: str, tmp_path: Path
) -> None:
    last, chance = 0, random.Random(7)
    for number in range(KILLS):
        with writer(database, tmp_path / "pod") as leader:
            (first,) = told(leader, 1)
            assert last < first <= last + 2
            time.sleep(chance.random() * 0.05)
            leader.kill()
            last = [first, *rest(leader)][-1]
        if number % 5 == 4:
            require_complete(database, tmp_path / "check", last)


def test_a_leader_that_was_paused_wakes_up_and_ends(database: str, tmp_path: Path) -> None:
    with writer(database, tmp_path / "first") as first:
        *_, last = told(first, 20)
        first.send_signal(signal.SIGSTOP)
        with writer(database, tmp_path / "second") as second:
            numbers = told(second, 20)
            first.send_signal(signal.SIGCONT)
            last = [last, *rest(first)][-1]
            assert first.wait(10) == 3
            assert numbers[0] in (last + 1, last + 2)
            assert numbers == list(range(numbers[0], numbers[0] + 20))
            numbers += told(second, 20)
            second.kill()
            last = [*numbers, *rest(second)][-1]
    require_complete(database, tmp_path / "check", last)


def test_a_server_that_is_killed_under_a_leader_loses_nothing(
    database: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    with writer(database, tmp_path / "pod") as leader:
        for _ in range(3):
            told(leader, 20)
            postgres.kill()
            postgres.start()
            (last,) = told(leader, 1)
        leader.kill()
        last = [last, *rest(leader)][-1]
    require_complete(database, tmp_path / "check", last)
