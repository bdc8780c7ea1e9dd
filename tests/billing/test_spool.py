"""Rows that wait on the disk for the ledger."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsfn.billing.interval import Interval
from dsfn.billing.posting_document import Spooled
from dsfn.billing.reservation import Reservation
from dsfn.billing.spool import Spool, is_empty, rows_in
from dsfn.billing.spool_damage import FILE_NAME as DAMAGED
from dsfn.billing.usage import Usage
from dsfn.functions.errors import StorageFull, StoreUnavailable, UsageError

CALL = Usage("i", "t", "", "f", "r", "cpu", 10, 1, 2, 0, "succeeded", lease="l", error="é\n\"'\\")
IDLE = Interval("idle", "l/1", "l", "cpu", 1, "cpu", "f", "r", "", 12, 3, "idle")
MONEY = Reservation("reserve", "i", "t", "k", "USD", 5, 10)


def call(number: int) -> Usage:
    return replace(CALL, invocation_id=f"i-{number}")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def opened(place: Path, **limits: int) -> Spool:
    return Spool(place, sync=False, **limits)


def file_of(place: Path) -> Path:
    """The file that has what was added first."""
    names = ("ledger.spool", "ledger.spool.next")
    (path,) = (path for name in names if (path := place / name).stat().st_size)
    return path


def filled(place: Path, count: int) -> bytes:
    """What the spool of a writer that was killed has, with so many rows."""
    with closing(opened(place)) as spool:
        for number in range(count):
            spool.add([call(number)])
    return file_of(place).read_bytes()


def posted(place: Path) -> None:
    """Has a ledger take all that waits."""
    with closing(opened(place)) as spool:
        while spool.taken():
            spool.posted()


def kept_in(place: Path) -> list[dict[str, Any]]:
    """What was kept aside of a damaged spool."""
    return [json.loads(line) for line in (place / DAMAGED).read_bytes().splitlines()]


def test_rows_of_every_kind_come_back_as_they_were(place: Path) -> None:
    with closing(opened(place)) as spool:
        spool.add([CALL, IDLE, MONEY])
        assert list(spool.taken()) == rows_in(place) == [CALL, IDLE, MONEY]
    with closing(opened(place)) as spool:
        assert list(spool.taken()) == [CALL, IDLE, MONEY]
        spool.posted()
        assert spool.rows == 0 and rows_in(place) == []


STEPS = st.lists(st.sampled_from(["add", "add", "take", "posted", "killed"]), max_size=30)


@given(STEPS)
@settings(deadline=None, max_examples=60)
def test_rows_wait_in_their_order_until_they_are_posted_whatever_happens(steps: list[str]) -> None:
    with TemporaryDirectory() as directory:
        place, number = Path(directory), 0
        waiting: list[Spooled] = []
        taken = 0
        spool = opened(place)
        for step in steps:
            match step:
                case "add":
                    rows = [call(number + each) for each in range(1 + number % 3)]
                    number += len(rows)
                    spool.add(rows)
                    waiting += rows
                case "take":
                    found = spool.taken()
                    assert list(found) == waiting[: len(found)] and bool(found) == bool(waiting)
                    taken = len(found)
                case "posted" if taken:
                    spool.posted()
                    waiting, taken = waiting[taken:], 0
                case "killed":
                    # All that a killed process leaves is in its files.
                    spool.close()
                    spool, taken = opened(place), 0
                    assert spool.problems == []
            assert spool.rows == len(waiting)
            assert rows_in(place) == waiting
        spool.close()


def test_a_tail_that_was_cut_off_anywhere_takes_no_row_before_it(place: Path) -> None:
    content = filled(place, 3)
    path, whole = file_of(place), len(content.splitlines(keepends=True)[0]) * 2
    for length in range(whole, len(content)):
        path.write_bytes(content[:length])
        with closing(opened(place)) as spool:
            assert spool.rows == 2
            spool.add([call(9)])
        assert rows_in(place) == [call(0), call(1), call(9)]
        shutil.rmtree(place)
        place.mkdir()


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_a_flipped_bit_takes_its_own_record_and_is_told(data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        place = Path(directory)
        content = bytearray(filled(place, 5))
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] ^= 1 << data.draw(st.integers(0, 7))
        file_of(place).write_bytes(content)
        length = len(content) // 5
        hit = {position // length}
        if position % length == length - 1:
            # It was the end of a line: the next one is part of it.
            hit.add(position // length + 1)
        with closing(opened(place)) as spool:
            found, problems = list(spool.taken()), spool.problems
        expected = [call(number) for number in range(5)]
        # The same digit may be written in two ways.
        if found != expected:
            assert found == [row for number, row in enumerate(expected) if number not in hit]
            assert [(each.row, each.kind) for each in problems] == [(None, "spool")]
            (kept,) = kept_in(place)
            left = "\n".join(kept["lines"]).encode("latin-1")
            assert left in content and len(left) >= length - 1


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_what_is_missing_in_the_middle_is_told_wherever_it_was(data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        place = Path(directory)
        content = filled(place, 5)
        length = len(content) // 5
        # Whole records at the beginning are gone as those are that were posted.
        start = data.draw(st.integers(1, len(content) - 2))
        end = data.draw(st.integers(start + 1, len(content) - 1))
        file_of(place).write_bytes(content[:start] + content[end:])
        with closing(opened(place)) as spool:
            found, problems = list(spool.taken()), spool.problems
        expected = [call(number) for number in range(5)]
        assert found == [row for row in expected if row in found]
        # The record before whose end it ends may stand on the line of the one in which it begins.
        apart = [n for n in range(5) if (n + 1) * length <= start or n * length >= end + length]
        assert all(call(number) in found for number in apart)
        assert (problems != []) == (len(found) < 5)
        assert all(each.kind == "spool" for each in problems)


def test_records_that_are_missing_between_the_two_files_are_told(place: Path) -> None:
    with closing(opened(place)) as spool:
        spool.add([call(0)])
        spool.add([call(1)])
        spool.taken()
        spool.add([call(2)])
        assert spool.problems == []
    older, newer = (place / name for name in ("ledger.spool.next", "ledger.spool"))
    content = older.read_bytes()
    assert b"i-0" in content and b"i-2" in newer.read_bytes()
    older.write_bytes(content[: len(content) // 2])
    with closing(opened(place)) as spool:
        (problem,) = spool.problems
        assert spool.rows == 2
    assert problem.detail == (
        "Records of ledger.spool.next after record 1 and before record 3 are missing."
        " The ledger may lack the rows that were there."
    )


def test_what_is_damaged_is_an_error_in_the_log_and_a_cut_off_tail_is_not(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = filled(place, 2)
    path = file_of(place)
    for torn in (content[:-5], content + bytes(4096), content[:-1] + bytes(20)):
        path.write_bytes(torn)
        with closing(opened(place)) as spool:
            assert spool.problems == []
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        tail = path.with_name(f"{path.name}.torn")
        assert torn.endswith(tail.read_bytes()) and tail.name in caplog.text
        caplog.clear()
    path.write_bytes(content.replace(b"i-0", b"i-7"))
    opened(place).close()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "A line of ledger.spool.next before record 2 cannot be read" in caplog.text
    (kept,) = kept_in(place)
    assert (kept["file"], kept["after"], kept["before"]) == ("ledger.spool.next", None, 2)
    assert "i-7" in kept["lines"][0]


def test_damage_is_kept_once_until_somebody_takes_it_away(place: Path) -> None:
    damaged = filled(place, 3).replace(b"i-1", b"i-9")
    file_of(place).write_bytes(damaged)
    for _ in range(3):
        # It could not be posted, and is read again.
        with closing(opened(place)) as spool:
            assert spool.rows == 2
            assert len(spool.problems) == 1
    posted(place)
    assert len(kept_in(place)) == 1
    damaged = filled(place, 3).replace(b"i-2", b"i-8")
    file_of(place).write_bytes(damaged)
    posted(place)
    assert [(kept["after"], kept["before"]) for kept in kept_in(place)] == [(1, 3), (2, None)]
    with closing(opened(place)) as spool:
        assert " after record 2 cannot be read" in spool.problems[1].detail
    (place / DAMAGED).unlink()
    damaged = filled(place, 2).replace(b"i-0", b"i-8").replace(b"i-1", b"i-8")
    file_of(place).write_bytes(damaged)
    with closing(opened(place)) as spool:
        # A file without a row in it is empty again.
        assert spool.rows == 0 and is_empty(place)
        assert [len(kept["lines"]) for kept in kept_in(place)] == [2]
        assert "2 lines of" in spool.problems[0].detail
        (place / DAMAGED).unlink()
        assert spool.problems == []


@pytest.mark.parametrize("text", [b"[1e400,[]]", b"[" * 100_000, b'[1,[{"kind":"usage"}]]', b"7"])
def test_what_has_its_checksum_and_is_no_record_is_damage(place: Path, text: bytes) -> None:
    rows = filled(place, 2)
    file_of(place).write_bytes(b"%08x %b\n" % (crc32(text), text) + rows)
    with closing(opened(place)) as spool:
        assert spool.rows == 2
        assert [each.kind for each in spool.problems] == ["spool"]


def test_damage_to_what_was_kept_hides_nothing(place: Path) -> None:
    damaged = filled(place, 3).replace(b"i-1", b"i-9")
    file_of(place).write_bytes(damaged)
    posted(place)
    path = place / DAMAGED
    path.write_bytes(b'{"file": "led\n{"file": 1}\n' + path.read_bytes().rstrip(b"\n"))
    content = filled(place, 2)
    file_of(place).write_bytes(content[:9] + b"x" + content[10:])
    with closing(opened(place)) as spool:
        details = [each.detail for each in spool.problems]
    posted(place)
    assert ["has a line that cannot be read" in each for each in details] == [
        *(True, True, False, False)
    ]
    path.unlink()
    path.mkdir()
    with closing(opened(place)) as spool:
        (problem,) = spool.problems
    assert problem.kind == "spool" and "cannot be read: Is a directory." in problem.detail


def test_damage_that_there_is_no_room_to_keep_stays_where_it_is(
    small_disk: Callable[[str], Path],
) -> None:
    place = small_disk("256k")
    content = filled(place, 40).replace(b"i-1", b"i-9")
    path = file_of(place)
    path.write_bytes(content)
    with (place / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
        while True:
            filler.write(bytes(4096))
    with pytest.raises(StorageFull, match=r"to write ledger\.spool\.damaged"):
        opened(place)
    assert path.read_bytes() == content
    (place / "filler").unlink()
    with closing(opened(place)) as spool:
        assert spool.rows == 29 and len(spool.problems) == 2


def test_zeros_that_a_loss_of_power_left_are_no_rows(place: Path) -> None:
    content = filled(place, 2)
    file_of(place).write_bytes(content + bytes(4096))
    assert rows_in(place) == [call(0), call(1)]


def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    small_disk: Callable[[str], Path],
) -> None:
    place = small_disk("64k")
    with closing(opened(place)) as spool:
        number = 0
        with pytest.raises(StorageFull, match=r"no room left on the disk to write ledger\.spool"):
            while True:
                spool.add([call(number + each) for each in range(10)])
                number += 10
        assert number and rows_in(place) == [call(each) for each in range(number)]
        small_disk("128k")
        spool.add([call(number)])
    with closing(opened(place)) as spool:
        assert list(spool.taken()) == [call(each) for each in range(number + 1)]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """System calls that fail while their names are in this set."""
    names: set[str] = set()

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def called(*arguments: object) -> object:
            if name in names:
                raise OSError(errno.EIO, "Input/output error")
            return real(*arguments)

        monkeypatch.setattr(os, name, called)

    for name in ("pwrite", "fdatasync", "ftruncate"):
        wrap(name)
    yield names


@pytest.mark.parametrize("call_name", ["pwrite", "fdatasync"])
def test_a_row_that_could_not_be_written_is_not_there(
    place: Path, failing: set[str], call_name: str
) -> None:
    with closing(Spool(place, sync=True)) as spool:
        spool.add([call(0)])
        failing.add(call_name)
        with pytest.raises(StoreUnavailable, match="cannot be written: input/output error"):
            spool.add([call(1)])
        failing.clear()
        assert spool.rows == 1
        spool.add([call(2)])
        assert rows_in(place) == [call(0), call(2)]


def test_rows_that_are_posted_and_could_not_be_taken_away_are_taken_away_later(
    place: Path, failing: set[str]
) -> None:
    with closing(opened(place)) as spool:
        spool.add([call(0)])
        spool.taken()
        failing.add("ftruncate")
        with pytest.raises(StoreUnavailable):
            spool.posted()
        failing.clear()
        assert list(spool.taken()) == [call(0)]
        spool.posted()
        assert spool.rows == 0 and rows_in(place) == []


def test_where_the_ledger_survives_a_loss_of_power_a_row_is_synced_before_it_is_answered_for(
    place: Path, failing: set[str]
) -> None:
    failing.add("fdatasync")
    with closing(opened(place)) as spool:
        spool.add([CALL])
        with pytest.raises(StoreUnavailable):
            spool.sync()
    shutil.rmtree(place)
    place.mkdir()
    with closing(Spool(place, sync=True)) as spool, pytest.raises(StoreUnavailable):
        spool.add([CALL])


def test_there_is_a_limit_of_rows_and_of_bytes(place: Path) -> None:
    with closing(opened(place, max_rows=3)) as spool:
        spool.add([call(0), call(1)])
        with pytest.raises(StoreUnavailable, match="no room left for usage") as caught:
            spool.add([call(2), call(3)])
        assert caught.value.fields["reason"] == "full"
        spool.taken()
        spool.posted()
        spool.add([call(2), call(3)])
    with closing(opened(place, max_bytes=800)) as spool, pytest.raises(StoreUnavailable):
        spool.add([call(4)])


def test_a_spool_has_one_writer(place: Path) -> None:
    with closing(opened(place)), pytest.raises(UsageError, match="a spool has one writer"):
        opened(place)
    opened(place).close()
