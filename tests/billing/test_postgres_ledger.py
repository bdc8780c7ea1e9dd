"""The ledger in PostgreSQL: writers at once, a server that is lost, and one writing process."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from forgetful_proxy import forgetful_proxy
from postgres_server import PostgresServer

from dsfn.billing.postgres_ledger import PostgresLedger
from dsfn.billing.selection import Selection
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, StoreUnavailable, UsageError

MakeUsage = Callable[..., Usage]
FOREVER = (0, 2**62)
GIVEN_UP_S = 60.0


def names(ledger: PostgresLedger) -> list[str]:
    return sorted(row.invocation_id for row in ledger.between(*FOREVER))


def post_until_it_is_there(ledger: PostgresLedger, rows: Sequence[Usage]) -> int:
    """Posts the same rows again and again; gives how often that failed."""
    deadline_s = time.monotonic() + GIVEN_UP_S
    failures = 0
    while True:
        try:
            ledger.post(rows)
            return failures
        except StoreUnavailable:
            failures += 1
            assert time.monotonic() < deadline_s
            time.sleep(0.01)


def test_sixteen_writers_that_post_the_same_rows_leave_each_there_once(
    database: str, make_usage: MakeUsage
) -> None:
    rows = [make_usage(invocation_id=f"i-{n:03}", started_at_us=n) for n in range(400)]
    ledger = PostgresLedger(database, writers=16)
    start = threading.Barrier(16)

    def write(seed: int) -> None:
        chance = random.Random(seed)
        own = rows[:]
        chance.shuffle(own)
        start.wait(timeout=60)
        for at in range(0, len(own), 25):
            ledger.post(own[at : at + 25])

    with ThreadPoolExecutor(16) as threads:
        for each in [threads.submit(write, seed) for seed in range(16)]:
            each.result()
    assert list(ledger.between(*FOREVER)) == rows
    assert sum(each.requests for each in ledger.sums(Selection(*FOREVER))) == len(rows)
    assert ledger.verify().problems == ()
    ledger.close()


def test_of_writers_with_other_bodies_under_one_id_one_is_kept_and_the_others_are_refused(
    database: str, make_usage: MakeUsage
) -> None:
    ledger = PostgresLedger(database, writers=16)
    start = threading.Barrier(16)

    def write(number: int) -> int | None:
        start.wait(timeout=60)
        try:
            ledger.post([make_usage(held_us=200 + number)])
        except Conflict as refused:
            assert refused.fields == {"invocation_id": "i-1"}
            return None
        return number

    with ThreadPoolExecutor(16) as threads:
        kept = [n for n in threads.map(write, range(16)) if n is not None]
    assert [row.held_us for row in ledger.between(*FOREVER)] == [200 + kept[0]]
    assert len(kept) == 1
    ledger.close()


def test_of_writers_with_one_idempotency_key_one_succeeds(
    database: str, make_usage: MakeUsage
) -> None:
    ledger = PostgresLedger(database, writers=16)
    start = threading.Barrier(16)

    def write(number: int) -> bool:
        start.wait(timeout=60)
        try:
            ledger.post([make_usage(invocation_id=f"i-{number}", idempotency_key="k")])
        except Conflict as refused:
            assert refused.fields["idempotency_key"] == "k"
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(write, range(16))) == 1
    assert len(names(ledger)) == 1
    ledger.close()


def test_each_writer_has_a_chain_and_a_post_lies_in_one(
    database: str, make_usage: MakeUsage
) -> None:
    ledger = PostgresLedger(database, writers=4)
    start = threading.Barrier(4)

    def write(number: int) -> None:
        start.wait(timeout=60)
        for n in range(10):
            ledger.post([make_usage(invocation_id=f"{number}-{n}-{i}") for i in range(20)])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    ledger.close()
    with psycopg.connect(database) as connection:
        found = connection.execute(
            "SELECT chain, count(*), max(seq), min(seq) FROM dsfn.entries GROUP BY chain"
        ).fetchall()
        posts = connection.execute(
            "SELECT max(n) FROM (SELECT count(DISTINCT chain) AS n FROM dsfn.entries"
            " GROUP BY substring(id FROM '^\\d+-\\d+')) AS each"
        ).fetchone()
    assert 1 < len(found) <= 4
    assert sum(count for _, count, _, _ in found) == 800
    assert all(count == last and first == 1 for _, count, last, first in found)
    assert posts == (1,)


def test_leases_that_a_killed_writer_left_open_are_closed_whichever_writers_had_rows_of_them(
    database: str, make_usage: MakeUsage
) -> None:
    ledger = PostgresLedger(database, writers=2)
    start = threading.Barrier(2)

    def write(number: int) -> None:
        start.wait(timeout=60)
        for n in range(20):
            # Both post to the same leases, and the first row of a post is never one's own.
            names = [("other", ""), ("some", f"s-{n % 5}"), ("own", f"o-{n}")]
            ledger.post(
                [
                    make_usage(invocation_id=f"{number}-{n}-{name}", lease=lease, function=name)
                    for name, lease in names
                ]
            )

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, range(2)))
    ledger.close_leases()
    intervals = list(ledger.intervals(*FOREVER))
    leases = {f"s-{n}": "some" for n in range(5)} | {f"o-{n}": "own" for n in range(20)}
    assert {each.lease: each.function for each in intervals} == leases
    assert len(intervals) == len(leases)
    assert sum(each.duration_us for each in intervals) == 2 * 20 * 2 * 200
    assert ledger.verify().problems == ()
    ledger.close_leases()
    assert list(ledger.intervals(*FOREVER)) == intervals
    ledger.close()


def test_a_second_writer_of_a_ledger_is_refused_until_the_first_lets_go(database: str) -> None:
    first = PostgresLedger(database)
    with pytest.raises(UsageError, match=r"Another process writes the ledger test_\w+ at 127"):
        PostgresLedger(database)
    first.close()
    PostgresLedger(database).close()


HOLDER = """
import sys, time
from dsfn.billing.postgres_ledger import PostgresLedger
ledger = PostgresLedger(sys.argv[1])
print("open", flush=True)
time.sleep(600)
"""


def test_a_writer_that_was_killed_holds_nobody_up(database: str) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, database], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    with pytest.raises(UsageError, match="a ledger has one writer"):
        PostgresLedger(database)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    PostgresLedger(database).close()


def test_a_connection_that_was_cut_is_made_anew_and_nobody_notices(
    database: str, make_usage: MakeUsage
) -> None:
    ledger = PostgresLedger(database)
    for n in range(3):
        ledger.post([make_usage(invocation_id=f"i-{n}")])
        with psycopg.connect(database, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'dsfn' AND datname = current_database()"
            )
    assert names(ledger) == ["i-0", "i-1", "i-2"]
    ledger.close()


def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    postgres: PostgresServer, database: str, make_usage: MakeUsage
) -> None:
    with forgetful_proxy(postgres.port) as proxy:
        ledger = PostgresLedger(database.replace(f":{postgres.port}/", f":{proxy.port}/"))
        for n in range(5):
            proxy.lose_next_commit = True
            ledger.post([make_usage(invocation_id=f"i-{n}"), make_usage(invocation_id=f"j-{n}")])
        assert proxy.lost == 5
        assert names(ledger) == sorted(f"{x}-{n}" for n in range(5) for x in "ij")
        assert ledger.verify().problems == ()
        ledger.close()


def test_a_server_that_is_gone_is_said_and_comes_back(
    postgres: PostgresServer, database: str, make_usage: MakeUsage
) -> None:
    ledger = PostgresLedger(database)
    ledger.post([make_usage()])
    postgres.kill()
    with pytest.raises(StoreUnavailable, match=r"The ledger test_\w+ at .* does not answer"):
        ledger.post([make_usage(invocation_id="i-2")])
    with pytest.raises(StoreUnavailable):
        ledger.usage("i-1")
    postgres.start()
    ledger.post([make_usage(invocation_id="i-2")])
    assert names(ledger) == ["i-1", "i-2"]
    ledger.close()


def test_a_server_that_hangs_is_given_up(
    postgres: PostgresServer, database: str, make_usage: MakeUsage
) -> None:
    ledger = PostgresLedger(database, answer_timeout_s=1)
    ledger.post([make_usage()])
    postgres.pause()
    try:
        started_s = time.monotonic()
        with pytest.raises(StoreUnavailable):
            ledger.post([make_usage(invocation_id="i-2")])
        assert time.monotonic() - started_s < 30
    finally:
        postgres.resume()
    post_until_it_is_there(ledger, [make_usage(invocation_id="i-2")])
    assert names(ledger) == ["i-1", "i-2"]
    ledger.close()


@pytest.mark.parametrize("how", ["kill -9", "immediate shutdown"])
def test_no_row_is_lost_or_doubled_when_the_server_dies_in_the_middle_of_commits(
    postgres: PostgresServer, database: str, make_usage: MakeUsage, how: str
) -> None:
    cycles, writers = 8, 4
    ledger = PostgresLedger(database, writers=writers)
    done = threading.Event()
    failures: Counter[int] = Counter()

    def write(number: int) -> list[str]:
        reported: list[str] = []
        n = 0
        while not done.is_set():
            rows = [make_usage(invocation_id=f"{number}-{n + i}") for i in range(1 + n % 5)]
            failures[number] += post_until_it_is_there(ledger, rows)
            reported += [row.invocation_id for row in rows]
            n += len(rows)
        return reported

    chance = random.Random(20261127)
    with ThreadPoolExecutor(writers) as threads:
        writing = [threads.submit(write, number) for number in range(writers)]
        for _ in range(cycles):
            time.sleep(chance.uniform(0.05, 0.25))
            if how == "kill -9":
                postgres.kill()
            else:
                postgres.stop_at_once()
            postgres.start()
        time.sleep(0.2)
        done.set()
        expected = sorted(name for each in writing for name in each.result())
    assert failures.total() > 0
    assert names(ledger) == expected
    assert ledger.verify().problems == ()
    ledger.close()


TAMPERING = {
    "update": "UPDATE entries SET held_us = 0",
    "delete": "DELETE FROM entries",
    "truncate": "TRUNCATE entries",
    "truncate by way of another": "TRUNCATE rate_cards, entries",
    "upsert": "INSERT INTO entries SELECT * FROM entries"
    " ON CONFLICT (chain, seq) DO UPDATE SET held_us = 0",
    "a card": "UPDATE rate_cards SET document = ''",
    "all cards": "DELETE FROM rate_cards",
}


@pytest.mark.parametrize("statement", TAMPERING.values(), ids=TAMPERING)
def test_the_database_itself_refuses_to_change_what_is_there(
    postgres_ledger: PostgresLedger, database: str, make_usage: MakeUsage, statement: str
) -> None:
    postgres_ledger.post([make_usage()])
    with psycopg.connect(database, options="-csearch_path=dsfn") as other:
        with pytest.raises(psycopg.errors.RaiseException, match="never changed"):
            other.execute(statement)
    assert list(postgres_ledger.between(*FOREVER)) == [make_usage()]


UNGUARDED = {
    "dropped": "DROP TRIGGER entries_are_never_changed ON entries",
    "disabled": "ALTER TABLE entries DISABLE TRIGGER USER",
    "on replicas alone": "ALTER TABLE entries ENABLE REPLICA TRIGGER entries_are_never_changed",
    "for deletions alone": """
        CREATE OR REPLACE TRIGGER entries_are_never_changed BEFORE DELETE ON entries
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('the ledger')""",
}


@pytest.mark.parametrize("statement", UNGUARDED.values(), ids=UNGUARDED)
def test_a_check_tells_that_the_database_refuses_changes_no_more(
    postgres_ledger: PostgresLedger, database: str, make_usage: MakeUsage, statement: str
) -> None:
    postgres_ledger.post([make_usage()])
    assert postgres_ledger.verify().problems == ()
    with psycopg.connect(database, options="-csearch_path=dsfn") as other:
        other.execute(statement)
    (problem,) = postgres_ledger.verify().problems
    assert (problem.row, problem.kind) == (None, "unguarded")
    assert "lets entries be changed" in problem.detail


def test_a_check_tells_that_no_trigger_refuses_anything(
    postgres_ledger: PostgresLedger, database: str
) -> None:
    with psycopg.connect(database, options="-csearch_path=dsfn") as other:
        other.execute(
            """CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF false THEN RAISE EXCEPTION '% is never changed', TG_ARGV[0]; END IF;
                RETURN NULL;
            END $$"""
        )
    named = {problem.detail.split()[3] for problem in postgres_ledger.verify().problems}
    assert named == {
        "entries", "checkpoints", "rate_cards", "closed_months", "documents", "prints",
    }  # fmt: skip
