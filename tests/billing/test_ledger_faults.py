"""What a ledger does when much happens at once, when a disk fails, and at the ends of numbers."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from dsfn.billing.audit import Audit
from dsfn.billing.checking import MAX_DEVICES, MAX_DURATION_US, MAX_INSTANT_US
from dsfn.billing.selection import Selection
from dsfn.billing.signing import SigningKey
from dsfn.billing.sqlite import require_sound
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, StorageFull, StoreUnavailable, UsageError

MakeUsage = Callable[..., Usage]
WRITERS = 16


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    """A ledger whose every row is right in the end."""
    with closing(SqliteLedger(tmp_path / "ledger.db")) as opened:
        yield opened
        found = opened.verify()
        assert found.ok, found.problems


def ids(ledger: SqliteLedger) -> list[str]:
    return [row.invocation_id for row in ledger.between(0, 2**62)]


def test_sixteen_writers_that_repeat_each_other_leave_each_row_once(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    rows = [make_usage(invocation_id=f"i-{n:03}", started_at_us=n) for n in range(200)]
    start = threading.Barrier(WRITERS)

    def write(writer: int) -> None:
        start.wait()
        # Every row comes from four writers, in batches that overlap in other ways each.
        for first in range(writer % 4, 200, 3 + writer % 5):
            ledger.post(rows[first : first + 4 + writer % 3])

    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(write, range(WRITERS)))
    assert sorted(set(ids(ledger))) == sorted(ids(ledger))
    assert len(ids(ledger)) >= 190


def test_of_sixteen_successes_under_one_key_one_is_in_the_books(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    start = threading.Barrier(WRITERS)

    def write(writer: int) -> bool:
        start.wait()
        try:
            ledger.post([make_usage(invocation_id=f"i-{writer}", idempotency_key="k")])
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as threads:
        assert sum(threads.map(write, range(WRITERS))) == 1
    assert len(ids(ledger)) == 1


def test_a_second_writer_is_refused_in_a_sentence_and_the_first_goes_on(
    ledger: SqliteLedger, tmp_path: Path, make_usage: MakeUsage
) -> None:
    with pytest.raises(UsageError, match=r"Another process writes to .*ledger\.db"):
        SqliteLedger(tmp_path / "ledger.db")
    other = "from dsfn.billing.sqlite_ledger import SqliteLedger as L; from pathlib import Path; L"
    done = subprocess.run(
        [sys.executable, "-c", f"{other}(Path({str(tmp_path / 'ledger.db')!r}))"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "UsageError: Another process writes to" in done.stderr
    ledger.post([make_usage()])
    assert ids(ledger) == ["i-1"]


@pytest.mark.parametrize(
    ("version", "sound"),
    [
        ("3.40.1", False),
        ("3.44.5", False),
        ("3.44.6", True),
        ("3.45.0", False),
        ("3.50.6", False),
        ("3.50.7", True),
        ("3.51.2", False),
        ("3.51.3", True),
        ("3.54.1", True),
    ],
)
def test_a_sqlite_that_can_lose_commits_is_refused(version: str, sound: bool) -> None:
    if sound:
        require_sound(version)
    else:
        with pytest.raises(UsageError, match=f"SQLite {version} can lose what was committed"):
            require_sound(version)


def test_a_ledger_that_may_not_grow_refuses_rows_and_takes_them_when_it_may(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    connection = ledger._connection
    pages: Any = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages[0] + 5}").fetchall()
    posted = []
    with pytest.raises(StorageFull):
        for n in range(1000):
            rows = [make_usage(invocation_id=f"i-{n:03}-{m}", started_at_us=n) for m in range(10)]
            ledger.post(rows)
            posted += [row.invocation_id for row in rows]
    assert ids(ledger) == posted
    assert ledger.verify().ok
    connection.execute("PRAGMA max_page_count = 1000000").fetchall()
    ledger.post([make_usage(invocation_id="after", started_at_us=10_000)])
    assert ids(ledger) == [*posted, "after"]


class _Failing(apsw.VFS):
    """A file system whose writes to the log fail once `left` of them were made."""

    def __init__(self) -> None:
        self.left = 1_000_000
        super().__init__("failing", "unix")

    def xOpen(self, name: Any, flags: list[int]) -> _FailingFile:  # noqa: N802
        return _FailingFile(self, name, flags)


class _FailingFile(apsw.VFSFile):
    def __init__(self, vfs: _Failing, name: Any, flags: list[int]) -> None:
        self._vfs = vfs
        self._is_log = bool(flags[0] & apsw.SQLITE_OPEN_WAL)
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._is_log:
            self._vfs.left -= 1
            if self._vfs.left < 0:
                raise apsw.IOError("the disk is broken")
        super().xWrite(data, offset)


@pytest.fixture
def failing() -> Iterator[_Failing]:
    vfs = _Failing()
    apsw.set_default_vfs("failing")
    yield vfs
    apsw.set_default_vfs("unix")
    vfs.unregister()


@pytest.mark.parametrize("writes", range(0, 24, 3))
def test_a_disk_that_fails_in_the_middle_of_a_commit_leaves_all_of_it_or_nothing(
    failing: _Failing, tmp_path: Path, make_usage: MakeUsage, writes: int
) -> None:
    batches = [
        [make_usage(invocation_id=f"{b}-{n}", started_at_us=b) for n in range(20)] for b in range(3)
    ]
    ledger = SqliteLedger(tmp_path / "ledger.db")
    ledger.post(batches[0])
    failing.left = writes
    refused = False
    try:
        ledger.post(batches[1])
    except StorageFull:
        refused = True
    failing.left = 1_000_000
    count = len(ids(ledger))
    assert count in ((20,) if refused else (40,))
    ledger.post(batches[1])
    ledger.post(batches[2])
    assert len(ids(ledger)) == 60
    assert ledger.verify().ok
    ledger.close()


def test_a_database_that_somebody_locked_is_said_to_be_and_nothing_is_lost(
    ledger: SqliteLedger, tmp_path: Path, make_usage: MakeUsage
) -> None:
    ledger.post([make_usage()])
    ledger._connection.set_busy_timeout(50)
    with closing(apsw.Connection(str(tmp_path / "ledger.db"))) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"Another program keeps ledger\.db locked"):
            ledger.post([make_usage(invocation_id="i-2")])
    ledger.post([make_usage(invocation_id="i-2")])
    assert ids(ledger) == ["i-1", "i-2"]


def test_the_largest_rows_are_kept_and_added_up_exactly(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    largest = {
        "busy_us": MAX_DURATION_US,
        "held_us": MAX_DURATION_US,
        "restore_us": MAX_DURATION_US,
        "devices": MAX_DEVICES,
    }
    ledger.post([make_usage(invocation_id=f"i-{n}", **largest, started_at_us=0) for n in range(9)])
    last = make_usage(invocation_id="last", **largest, started_at_us=MAX_INSTANT_US)
    ledger.post([last])
    assert ledger.usage("last") == last
    assert ledger.balance("tenant/default", "us:cpu") == 20 * MAX_DURATION_US * MAX_DEVICES


def test_what_no_longer_fits_into_64_bits_is_refused(
    ledger: SqliteLedger, make_usage: MakeUsage
) -> None:
    largest = {"held_us": MAX_DURATION_US, "devices": MAX_DEVICES}
    fit = (2**63 - 1) // (MAX_DURATION_US * MAX_DEVICES)
    rows = [make_usage(invocation_id=f"i-{n}", **largest) for n in range(fit)]
    ledger.post(rows)
    before = ledger.balance("tenant/default", "us:cpu")
    with pytest.raises(Conflict):
        ledger.post([make_usage(invocation_id="one too many", **largest)])
    with pytest.raises(Conflict):
        ledger.post([make_usage(invocation_id=f"x-{n}", **largest) for n in range(2 * fit)])
    assert ledger.balance("tenant/default", "us:cpu") == before
    ledger.post([make_usage(invocation_id="small")])


def test_a_clock_that_is_set_back_an_hour_changes_nothing_about_what_was_posted(
    ledger: SqliteLedger, tmp_path: Path, make_usage: MakeUsage
) -> None:
    key, hour_us = SigningKey.open(tmp_path / "key.pem"), 3_600_000_000
    at_us = 1_790_000_000_000_000
    for n, now_us in enumerate((at_us, at_us - hour_us, at_us - hour_us + 1)):
        ledger.post([make_usage(invocation_id=f"i-{n}", started_at_us=now_us)])
        assert ledger.checkpoint(key, now_us) is not None
    assert ids(ledger) == ["i-1", "i-2", "i-0"]
    assert sum(each.requests for each in ledger.sums(Selection(0, 2**62))) == 3


def test_a_checkpoint_is_signed_when_rows_have_come_and_by_one_key_alone(
    ledger: SqliteLedger, tmp_path: Path, make_usage: MakeUsage
) -> None:
    key = SigningKey.open(tmp_path / "key.pem")
    assert (ledger.unsigned_rows, ledger.checkpoint(key, 1)) == (0, None)
    ledger.post([make_usage()])
    assert ledger.unsigned_rows == 1
    first = ledger.checkpoint(key, 2)
    assert first is not None and first.is_signed()
    assert (ledger.unsigned_rows, ledger.checkpoint(key, 3)) == (0, None)
    for moment_us in (3, 4):  # whether anything has come or not
        with pytest.raises(UsageError, match="not the key that signed"):
            ledger.checkpoint(SigningKey.open(tmp_path / "other.pem"), moment_us)
        ledger.post([make_usage(invocation_id="i-2")])
    second = ledger.checkpoint(SigningKey.open(tmp_path / "key.pem"), 5)
    assert second is not None and second.previous == first.digest()
    assert [number for number, _ in ledger.checkpoints(0, 10)] == [1, 2]


def test_the_check_that_goes_on_sees_rows_that_did_not_stay_and_names_each_once(
    tmp_path: Path, make_usage: MakeUsage
) -> None:
    path = tmp_path / "ledger.db"
    with closing(SqliteLedger(path)) as ledger:
        audit = Audit(ledger.books())
        ledger.post([make_usage(invocation_id=f"i-{n}") for n in range(10)])
        assert audit.step(4) == (4, [])
        with closing(apsw.Connection(str(path))) as other:
            other.execute("DROP TRIGGER entries_are_never_updated")
            other.execute("UPDATE entries SET caller = 'x' WHERE seq = 6")
        rows, problems = audit.step(100)
        assert (rows, [(p.row, p.kind) for p in problems]) == (6, [(6, "changed")])
        assert audit.step(100) == (0, [])
        with closing(apsw.Connection(str(path))) as other:
            other.execute("DROP TRIGGER entries_are_never_deleted")
            other.execute("DELETE FROM entries WHERE seq > 8")
        _, problems = audit.step(100)
        assert [(p.row, p.kind) for p in problems] == [(9, "cut off")]
