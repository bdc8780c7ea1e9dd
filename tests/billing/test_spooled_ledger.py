"""A ledger whose rows are durable before it has them."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsfn.billing.evidence import Evidence
from dsfn.billing.interval import Interval
from dsfn.billing.periods import DAY_US, Month
from dsfn.billing.posting import Posting
from dsfn.billing.reservation import Reservation
from dsfn.billing.selection import Selection
from dsfn.billing.signing import SigningKey
from dsfn.billing.spool import Spool, rows_in
from dsfn.billing.spooled_ledger import SHARE_ROWS, Database, SpooledLedger
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, StorageFull, StoreUnavailable

T0 = Month.parse("2026-09").start_us


def call(number: int, lease: str = "", **more: object) -> Usage:
    row = Usage(
        f"i-{number}", "t", "", "f", "r", "cpu", T0 + number, 1, 2, 0, "succeeded", lease=lease
    )
    return replace(row, **more)  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def spooled(ledger: Database, place: Path) -> Iterator[SpooledLedger]:
    """Over each database; that one is closed by its own fixture."""
    spool = Spool(place, sync=True)
    yield SpooledLedger(ledger, spool)
    spool.close()


def test_whoever_reads_finds_what_was_posted_soon(spooled: SpooledLedger, place: Path) -> None:
    reads: list[Callable[[], object]] = [
        lambda: spooled.usage("i-0"),
        lambda: list(spooled.between(T0, T0 + DAY_US)),
        lambda: spooled.sums(Selection(T0, T0 + DAY_US, by="function")),
        lambda: spooled.balance("tenant/t", "us:cpu"),
        lambda: spooled.months(),
        lambda: spooled.recent(["f"], 10).get("f"),
        lambda: spooled.heads(),
        lambda: spooled.verify().rows,
    ]
    seen = []
    for number, read in enumerate(reads):
        spooled.post_soon([call(number)])
        assert rows_in(place) == [call(number)]
        seen.append(read())
        assert rows_in(place) == [] and spooled.rows_waiting == 0
    assert all(seen), seen
    assert seen[-1] == len(reads)


def test_a_row_is_refused_for_one_that_still_waits(spooled: SpooledLedger) -> None:
    spooled.post_soon([call(0), call(1, idempotency_key="k")])
    for refused in (call(0, held_us=9), call(2, idempotency_key="k")):
        with pytest.raises(Conflict):
            spooled.post([refused])
    spooled.post([call(0), call(1, idempotency_key="k")])
    assert list(spooled.between(T0, T0 + 9)) == [call(0), call(1, idempotency_key="k")]


def test_what_the_ledger_refuses_later_is_told_and_takes_no_other_with_it(
    spooled: SpooledLedger, caplog: pytest.LogCaptureFixture
) -> None:
    spooled.post([call(0, "l")])
    spooled.post_soon([call(1, "l"), call(0, "l", busy_us=2, held_us=30), call(2, "l")])
    held = Interval("held", "l/9", "l", "cpu", 1, "cpu", "f", "r", "", T0, 36, closes=True)
    spooled.post_soon([held])
    assert [row.invocation_id for row in spooled.between(T0, T0 + 9)] == ["i-0", "i-1", "i-2"]
    assert spooled.usage("i-0") == call(0, "l")
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "refuses a row of its spool" in record.getMessage() and '"i-0"' in record.getMessage()
    # All of the lease is accounted for: nobody pays for what was refused.
    assert spooled.balance("platform/faults", "us:cpu") == 30
    assert spooled.verify().ok


def test_money_that_was_set_aside_is_seen_and_given_back(spooled: SpooledLedger) -> None:
    money = Reservation("reserve", "i-0", "t", "k", "USD", 5, T0)
    spooled.post_soon([money])
    spooled.post_soon([replace(money, id="i-1")])
    assert [each.id for each in spooled.reservations_open("t")] == ["i-0", "i-1"]
    spooled.post_soon([call(0), replace(money, kind="post")])
    spooled.post_soon([replace(money, id="i-1", kind="void")])
    assert spooled.reservations_open("t") == []
    assert spooled.verify().ok


def test_what_was_answered_before_a_month_is_closed_belongs_to_it(spooled: SpooledLedger) -> None:
    end_us = Month.parse("2026-09").end_us
    spooled.post_soon([call(0)])
    spooled.start_closing(end_us)
    spooled.post_soon([call(1)])
    assert spooled.months() == ["2026-09", "2026-10"]


def test_what_was_answered_before_is_signed(spooled: SpooledLedger, tmp_path: Path) -> None:
    key, next_key = (SigningKey.open(tmp_path / name) for name in ("key.pem", "next.pem"))
    spooled.post_soon([call(0)])
    signed = spooled.checkpoint(key, T0)
    assert signed is not None and signed.at_us == T0
    assert [head.seq for _, head in signed.heads] == [1]
    spooled.post_soon([call(1)])
    spooled.rotate(key, next_key, T0 + 1)
    *_, (_, last), (_, first_of_next) = spooled.checkpoints(0, 10)
    assert json.loads(last)["next_key"] == next_key.public_key
    assert sum(head["seq"] for head in json.loads(last)["heads"]) == 2
    assert json.loads(first_of_next)["public_key"] == next_key.public_key
    assert spooled.verify(Evidence(frozenset({next_key.public_key}))).ok


def test_rows_are_posted_in_the_order_in_which_they_came_though_the_clock_goes_back(
    spooled: SpooledLedger,
) -> None:
    hour_us = 3_600_000_000
    for number in range(SHARE_ROWS * 2 + 7):
        spooled.post_soon([call(number, started_at_us=T0 + hour_us - number * 1_000_000)])
        if number % 50 == 0:
            spooled.post_share()
    (chain,) = spooled.heads()
    rows = spooled.calls_in(chain, 0, 10_000, 10_000)
    assert [entry.id for _, entry in rows] == [f"i-{n}" for n in range(SHARE_ROWS * 2 + 7)]
    assert spooled.verify().ok


class Fragile(SqliteLedger):
    """Takes nothing while `error` is set."""

    error: Exception | None = None

    def post(self, rows: Sequence[Posting]) -> None:
        if self.error is not None:
            raise self.error
        super().post(rows)


def opened(place: Path, **limits: int) -> tuple[SpooledLedger, Fragile]:
    database = Fragile(place / "ledger.db")
    return SpooledLedger(database, Spool(place, sync=False, **limits)), database


def test_while_the_ledger_is_away_rows_wait_and_nobody_reads_without_them(place: Path) -> None:
    ledger, database = opened(place)
    with closing(ledger):
        database.error = StoreUnavailable("It is gone.")
        for number in range(300):
            ledger.post_soon([call(number)])
        for read in (lambda: ledger.usage("i-0"), lambda: ledger.verify()):
            with pytest.raises(StoreUnavailable):
                read()
        with pytest.raises(StoreUnavailable):
            ledger.post([call(300)])
        assert ledger.rows_waiting == len(rows_in(place)) == 300
        database.error = None
        assert len(list(ledger.between(T0, T0 + 999))) == 300


def test_when_so_many_wait_that_there_is_no_room_the_next_ones_wait_for_the_ledger(
    place: Path,
) -> None:
    ledger, database = opened(place, max_rows=10)
    with closing(ledger):
        for number in range(25):
            ledger.post_soon([call(number)])
        database.error = StoreUnavailable("It is gone.")
        for number in range(25, 30):
            ledger.post_soon([call(number)])
        with pytest.raises(StoreUnavailable, match="It is gone"):
            for number in range(30, 99):
                ledger.post_soon([call(number)])
        assert ledger.rows_waiting == 10
        database.error = None
        ledger.post_soon([call(99)])
        found = [row.invocation_id for row in ledger.between(T0, T0 + 200)]
        assert found == [f"i-{number}" for number in (*range(32), 99)]


def test_while_the_ledger_has_no_room_nothing_is_taken_any_more(place: Path) -> None:
    ledger, database = opened(place)
    with closing(ledger):
        ledger.post_soon([call(0)])
        database.error = StorageFull("No room.")
        with pytest.raises(StorageFull):
            ledger.drain()
        with pytest.raises(StorageFull):
            ledger.post_soon([call(1)])
        assert rows_in(place) == [call(0)]
        database.error = None
        ledger.post_soon([call(2)])
        ledger.post_soon([call(3)])
        assert rows_in(place) == [call(3)]
        assert [row.invocation_id for row in ledger.between(T0, T0 + 9)] == ["i-0", "i-2", "i-3"]


def test_a_full_disk_is_told_and_every_row_that_was_taken_is_posted_once_there_is_room(
    small_disk: Callable[[str], Path],
) -> None:
    place = small_disk("1m")
    ledger, _ = opened(place)
    with closing(ledger):
        taken = 0
        with pytest.raises(StorageFull):
            while True:
                ledger.post_soon([call(taken)])
                taken += 1
                if taken % 10 == 0:
                    ledger.post_share()
        for _ in range(3):
            with pytest.raises(StorageFull):
                ledger.post_soon([call(taken)])
        small_disk("8m")
        found = [row.invocation_id for row in ledger.between(T0, T0 + 10**9)]
        assert found == [f"i-{number}" for number in range(taken)]
        ledger.post_soon([call(taken + 1)])
        assert ledger.usage(f"i-{taken + 1}") and ledger.verify().ok


def test_rows_that_are_posted_and_still_in_the_spool_are_posted_once(place: Path) -> None:
    ledger, _ = opened(place)
    ledger.post_soon([call(n, "l") for n in range(150)])
    ledger.post_soon([Reservation("reserve", "i-0", "t", "", "USD", 5, T0)])
    for path in place.glob("ledger.spool*"):
        shutil.copy(path, path.with_suffix(".copy"))
    ledger.close()
    for path in place.glob("*.copy"):
        shutil.copy(path, place / ("ledger.spool" if path.name == "ledger.copy" else path.stem))
    ledger, _ = opened(place)
    with closing(ledger):
        assert rows_in(place) == []
        assert len(list(ledger.between(T0, T0 + 999))) == 150
        assert len(ledger.reservations_open("t")) == 1
        assert ledger.verify().ok


def test_what_cannot_be_posted_when_the_ledger_is_closed_waits_for_the_next_start(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, database = opened(place)
    ledger.post_soon([call(0)])
    database.error = StoreUnavailable("It is gone.")
    ledger.close()
    assert "1 rows wait in the spool: It is gone." in caplog.text
    ledger, _ = opened(place)
    with closing(ledger):
        assert ledger.usage("i-0") == call(0)


def test_damage_of_the_spool_is_a_problem_and_keeps_no_other_row_from_being_posted(
    place: Path,
) -> None:
    ledger, database = opened(place)
    database.error = StoreUnavailable("It is gone.")
    for number in range(3):
        ledger.post_soon([call(number)])
    ledger.close()
    for path in place.glob("ledger.spool*"):
        path.write_bytes(path.read_bytes().replace(b"i-1", b"i-9"))
    ledger, _ = opened(place)
    with closing(ledger):
        found = ledger.verify()
        assert (found.ok, found.rows) == (False, 2)
        assert [(each.row, each.kind) for each in found.problems] == [(None, "spool")]
        assert [row.invocation_id for row in ledger.between(T0, T0 + 9)] == ["i-0", "i-2"]
        ledger.post_soon([call(3)])
        # It is a problem for as long as what was left is there.
        assert ledger.verify().problems == found.problems
        (place / "ledger.spool.damaged").unlink()
        assert ledger.verify().ok


STEPS = st.lists(
    st.sampled_from(["call", "call", "idle", "close", "share", "post", "read", "killed"]),
    max_size=40,
)


@given(STEPS)
@settings(deadline=None, max_examples=40)
def test_every_lease_adds_up_however_rows_come_to_the_ledger(steps: list[str]) -> None:
    with TemporaryDirectory() as directory:
        place, lease, held_us, calls = Path(directory), 0, 0, []
        ledger, _ = opened(place)

        def interval(kind: str, duration_us: int, number: int, closes: bool = False) -> Interval:
            return Interval(
                kind,  # type: ignore[arg-type]
                f"l-{lease}/{number}",
                f"l-{lease}",
                "cpu",
                1,
                "cpu",
                "f",
                "r",
                "",
                T0,
                duration_us,
                closes=closes,
            )

        for number, step in enumerate(steps):
            match step:
                case "call" | "post":
                    row = call(number, f"l-{lease}", held_us=number + 1)
                    (ledger.post if step == "post" else ledger.post_soon)([row])
                    calls.append(row)
                    held_us += number + 1
                case "idle":
                    ledger.post_soon([interval("idle", 5, number)])
                    held_us += 5
                case "close" if held_us:
                    ledger.post_soon([interval("held", held_us, number, closes=True)])
                    lease, held_us = lease + 1, 0
                case "share":
                    ledger.post_share()
                case "read":
                    assert list(ledger.between(T0, T0 + 99)) == calls
                case "killed":
                    # What a process leaves that is killed: nothing is posted when it ends.
                    ledger._spool.close()
                    ledger._ledger.close()
                    ledger, _ = opened(place)
                    ledger.close_leases()
                    lease, held_us = lease + 1, 0
        ledger.close_leases()
        assert list(ledger.between(T0, T0 + 99)) == calls
        found = ledger.verify()
        ledger.close()
        assert found.ok, found.problems
