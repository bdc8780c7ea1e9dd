from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from dsfn.billing.entry import COLUMNS as COLUMNS_OF_ENTRIES
from dsfn.billing.selection import Selection
from dsfn.billing.sqlite import load_queries
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import STATUSES, Usage
from dsfn.functions.errors import Conflict, StorageFull, UsageError

MakeUsage = Callable[..., Usage]
FOREVER = (0, 2**62)


def test_what_was_posted_is_read_back_field_for_field(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    row = make_usage(
        caller="frontend", status="failed", error="HandlerRaised", idempotency_key="日本-1"
    )
    ledger.post([row])
    assert ledger.usage("i-1") == row
    assert ledger.usage("i-2") is None


def test_every_status_can_be_posted(ledger: SqliteLedger, make_usage: MakeUsage) -> None:
    rows = [make_usage(invocation_id=status, status=status) for status in STATUSES]
    ledger.post(rows)
    assert list(ledger.between(*FOREVER)) == rows


def test_posting_nothing_writes_nothing(ledger: SqliteLedger) -> None:
    ledger.post([])
    assert list(ledger.between(*FOREVER)) == []


def test_posting_the_same_row_again_changes_nothing(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    row = make_usage(idempotency_key="k")
    ledger.post([row])
    ledger.post([row, row])
    assert list(ledger.between(*FOREVER)) == [row]


def test_a_repeat_does_not_keep_new_rows_of_its_batch_out(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    first, second = make_usage(), make_usage(invocation_id="i-2")
    ledger.post([first])
    ledger.post([first, second])
    assert list(ledger.between(*FOREVER)) == [first, second]


def test_another_body_under_the_same_id_is_refused_and_the_first_kept(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    ledger.post([make_usage()])
    with pytest.raises(Conflict) as refused:
        ledger.post([make_usage(invocation_id="i-2"), make_usage(held_us=201)])
    assert refused.value.fields == {"invocation_id": "i-1"}
    assert list(ledger.between(*FOREVER)) == [make_usage()]


def test_one_key_succeeds_once(ledger: SqliteLedger, make_usage: MakeUsage) -> None:
    ledger.post([make_usage(idempotency_key="k")])
    with pytest.raises(Conflict) as refused:
        ledger.post([make_usage(invocation_id="i-2", idempotency_key="k")])
    assert refused.value.fields == {"invocation_id": "i-2", "idempotency_key": "k"}
    assert ledger.usage("i-2") is None


def test_a_key_may_fail_before_and_after_it_succeeds(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    statuses = ["failed", "platform", "succeeded", "failed"]
    rows = [
        make_usage(invocation_id=f"i-{n}", status=status, idempotency_key="k")
        for n, status in enumerate(statuses)
    ]
    for row in rows:
        ledger.post([row])
    assert list(ledger.between(*FOREVER)) == rows


@pytest.mark.parametrize(
    "other", [{"tenant": "t2"}, {"function": "f2"}, {"idempotency_key": "k2"}], ids=str
)
def test_a_key_belongs_to_one_tenant_and_function(
    ledger: SqliteLedger, make_usage: MakeUsage, other: dict[str, str]
) -> None:
    ledger.post([make_usage(idempotency_key="k")])
    ledger.post([make_usage(**{"invocation_id": "i-2", "idempotency_key": "k", **other})])
    assert len(list(ledger.between(*FOREVER))) == 2


def test_rows_come_by_their_start_from_a_half_open_range(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    rows = [make_usage(invocation_id=f"i-{at}", started_at_us=at) for at in (30, 10, 20, 40)]
    ledger.post(rows)
    assert [row.started_at_us for row in ledger.between(10, 40)] == [10, 20, 30]


def test_sums_are_by_status_and_what_was_asked_for_and_leave_out_what_crosses_a_midnight(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    day = 86_400_000_000
    ledger.post(
        [
            make_usage(invocation_id="a", started_at_us=day - 200, restore_us=7),
            make_usage(invocation_id="over", started_at_us=day - 199),
            make_usage(invocation_id="b", started_at_us=day),
            make_usage(invocation_id="c", started_at_us=2 * day - 300, held_us=300),
            make_usage(invocation_id="d", started_at_us=day, status="platform"),
        ]
    )
    sums = ledger.sums(Selection(*FOREVER, "day"))
    assert [(s.status, s.day, s.requests, s.busy_us, s.held_us, s.restore_us) for s in sums] == [
        ("platform", 1, 1, 100, 200, 0),
        ("succeeded", 0, 1, 100, 200, 7),
        ("succeeded", 1, 2, 200, 500, 0),
    ]
    assert [row.invocation_id for row, _ in ledger.crossing(Selection(*FOREVER))] == ["over"]


def test_every_row_with_a_part_in_a_stretch_is_whole_or_crosses(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    day, start_us, end_us = 86_400_000_000, 90_000_000_000, 95_000_000_000
    rows = {
        "before": (start_us - 200, 200),
        "over the start": (start_us - 100, 200),
        "at the start": (start_us, 200),
        "to the end": (end_us - 200, 200),
        "over the end": (end_us - 199, 200),
        "over both": (start_us - 1, end_us - start_us + 2),
        "after": (end_us, 200),
        "from the day before": (day - 1, start_us - day + 2),
        "into the next day": (end_us - 1, day),
        "an instant": (start_us, 0),
    }
    ledger.post(
        [
            make_usage(invocation_id=name, started_at_us=at, held_us=held, busy_us=0)
            for name, (at, held) in rows.items()
        ]
    )
    crossing = [row.invocation_id for row, _ in ledger.crossing(Selection(start_us, end_us))]
    assert sorted(crossing) == [
        "from the day before",
        "into the next day",
        "over both",
        "over the end",
        "over the start",
    ]
    (whole,) = ledger.sums(Selection(start_us, end_us))
    assert (whole.requests, whole.held_us) == (3, 400)


def test_reading_in_another_thread_does_not_hold_posting_up(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    rows = [make_usage(invocation_id=f"i-{n:03}", started_at_us=n) for n in range(300)]
    ledger.post(rows[:100])
    with ThreadPoolExecutor(1) as threads:
        reading = ledger.between(*FOREVER)
        assert threads.submit(next, reading).result() == rows[0]
        ledger.post(rows[100:])
        # A read sees the books of the instant at which it began.
        assert threads.submit(list, reading).result() == rows[1:100]
        assert threads.submit(ledger.sums, Selection(*FOREVER)).result()[0].requests == 300


def test_the_books_are_there_after_closing_and_opening(
    tmp_path: Path, make_usage: MakeUsage
) -> None:
    first = SqliteLedger(tmp_path / "ledger.db")
    first.post([make_usage()])
    first.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ledger.db"]
    second = SqliteLedger(tmp_path / "ledger.db")
    assert second.usage("i-1") == make_usage()
    second.close()


COLUMNS = ", ".join(COLUMNS_OF_ENTRIES)
SAME = f"SELECT seq, 0, {COLUMNS}, hash FROM entries WHERE true"
OTHER_SEQ = SAME.replace("SELECT seq", "SELECT NULL")
TAMPERING = {
    "update": "UPDATE entries SET held_us = 0",
    "delete": "DELETE FROM entries",
    "replace the row": f"REPLACE INTO entries {SAME.replace('held_us', '0')}",
    "replace by id": f"REPLACE INTO entries {OTHER_SEQ.replace('held_us', '0')}",
    "replace by key": f"REPLACE INTO entries {OTHER_SEQ.replace(' id,', ' 7,')}",
    "upsert": f"INSERT INTO entries {SAME} ON CONFLICT DO UPDATE SET held_us = 0",
}


@pytest.mark.parametrize("statement", TAMPERING.values(), ids=TAMPERING)
def test_the_database_itself_keeps_a_row_as_it_was_posted(
    tmp_path: Path, make_usage: MakeUsage, statement: str
) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    ledger.post([make_usage(idempotency_key="k")])
    ledger.close()
    # Python's own SQLite, with none of the ledger's settings.
    other = sqlite3.connect(tmp_path / "ledger.db")
    try:
        other.execute(statement)
        other.commit()
    except sqlite3.IntegrityError as refused:
        assert "ledger is never" in str(refused)
    other.close()
    again = SqliteLedger(tmp_path / "ledger.db")
    assert list(again.between(*FOREVER)) == [make_usage(idempotency_key="k")]
    again.close()


@pytest.mark.parametrize("column", ["held_us = -1", "held_us = 1.5", "hash = x'00'"])
def test_the_database_itself_refuses_a_row_that_makes_no_sense(tmp_path: Path, column: str) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    ledger.close()
    name, _, value = column.partition(" = ")
    values = dict.fromkeys(COLUMNS_OF_ENTRIES[:6], "1") | dict.fromkeys(
        COLUMNS_OF_ENTRIES[6:], "''"
    )
    values |= {"seq": "1", "chain": "0", "hash": "zeroblob(32)", name: value}
    connection = apsw.Connection(str(tmp_path / "ledger.db"))
    with pytest.raises(apsw.ConstraintError):
        connection.execute(
            f"INSERT INTO entries ({', '.join(values)}) VALUES ({', '.join(values.values())})"
        )
    connection.close()


def test_a_file_that_is_no_ledger_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"this is a text file\n" * 100)
    with pytest.raises(UsageError, match="not a database"):
        SqliteLedger(tmp_path / "ledger.db")


def test_a_full_disk_refuses_the_row_and_keeps_the_others(
    small_disk: Callable[[str], Path], make_usage: MakeUsage
) -> None:
    path = small_disk("1m") / "ledger.db"
    ledger = SqliteLedger(path)
    posted = []
    with pytest.raises(StorageFull, match=r"no room left on the disk to write ledger\.db"):
        for n in range(10_000):
            row = make_usage(invocation_id=f"i-{n:05}", started_at_us=n)
            ledger.post([row])
            posted.append(row)
    assert 10 < len(posted) < 10_000
    assert list(ledger.between(*FOREVER)) == posted
    ledger.close()
    small_disk("8m")
    again = SqliteLedger(path)
    assert list(again.between(*FOREVER)) == posted
    again.post([make_usage(invocation_id="after", started_at_us=len(posted))])
    assert again.usage("after") is not None
    again.close()


def test_the_last_calls_of_a_function_come_newest_first_up_to_a_number(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    ledger.post(
        [
            make_usage(invocation_id=f"i-{n}", started_at_us=n, held_us=200 + n, function=function)
            for n, function in enumerate(["a", "b", "a", "a", "a"])
        ]
    )
    found = ledger.recent(["a", "b", "never"], 3)
    assert [call.held_us for call in found["a"]] == [204, 203, 202]
    assert [call.held_us for call in found["b"]] == [201]
    assert found["never"] == []


def test_calls_that_never_ran_or_were_called_off_say_nothing_of_a_function(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    ledger.post([make_usage(invocation_id=f"i-{status}", status=status) for status in STATUSES])
    calls = ledger.recent(["echo"], 10)["echo"]
    assert sorted(call.status for call in calls) == ["failed", "succeeded"]


@pytest.mark.usefixtures("sqlite_ledger")
def test_the_last_calls_are_found_without_reading_the_others(tmp_path: Path) -> None:
    query = load_queries("dsfn.billing", "sql/ledger.sql")["select_recent"]
    connection = apsw.Connection(str(tmp_path / "ledger.db"))
    steps = connection.execute(
        f"EXPLAIN QUERY PLAN {query}", {"function": "a", "limit": 1}
    ).fetchall()
    assert "USING INDEX entries_by_function (function=?)" in str(steps)
    connection.close()
