"""What was done to the rows of a chain is told from them alone, however much it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from dsfn.billing.canonical import FIRST_HASH, INTEGERS, row_hash
from dsfn.billing.chain import Head, Links
from dsfn.billing.chain_check import Row, diagnose, read_row
from dsfn.billing.entry import COLUMNS, Entry, entries_of
from dsfn.billing.rounding import Counted
from dsfn.billing.stretch_check import Checked, check
from dsfn.billing.usage import Usage
from dsfn.billing.verification import MAX_PROBLEMS

T0 = 1_790_000_000_000_000
COUNT = 20


def entry(name: str) -> Entry:
    (found,) = entries_of(Usage(name, "t", "", "f", "", "cpu", T0, 1, 2, 0, "succeeded"), 0)
    return found


def chain(count: int = COUNT, number: int = 0) -> list[Row]:
    """A chain as it was posted."""
    linked = Links(number, Head()).follow(entry(f"i-{n}") for n in range(1, count + 1))
    return [Row(number, seq, entry, digest) for seq, entry, _, digest in linked]


def changed(rows: list[Row], *seqs: int) -> list[Row]:
    return [
        row._replace(entry=row.entry._replace(caller="x")) if row.seq in seqs else row
        for row in rows
    ]


def hashed_anew(rows: list[Row], seq: int) -> list[Row]:
    """A row is changed and has the hash of what it is now."""
    at = seq - 1
    row = changed(rows, seq)[at]
    before = rows[at - 1].hash if at else FIRST_HASH
    anew = row._replace(hash=row_hash(before, row.chain, seq, row.entry))
    return [*rows[:at], anew, *rows[at + 1 :]]


def other_hash(rows: list[Row], seq: int) -> list[Row]:
    return [row._replace(hash=bytes(32)) if row.seq == seq else row for row in rows]


def put_in(rows: list[Row], seq: int) -> list[Row]:
    """A row that was never posted is row `seq`; later ones are renumbered."""
    alien = Row(rows[0].chain, seq, entry("alien"), bytes(32))
    return renumbered([*rows[: seq - 1], alien, *rows[seq - 1 :]])


def taken_out(rows: list[Row], seq: int, count: int = 1) -> list[Row]:
    return renumbered([*rows[: seq - 1], *rows[seq - 1 + count :]])


def renumbered(rows: list[Row]) -> list[Row]:
    return [row._replace(seq=seq) for seq, row in enumerate(rows, 1)]


def without(rows: list[Row], *seqs: int) -> list[Row]:
    return [row for row in rows if row.seq not in seqs]


def swapped(rows: list[Row], one: int, other: int) -> list[Row]:
    places = {one: other, other: one}
    moved = [row._replace(seq=places.get(row.seq, row.seq)) for row in rows]
    return sorted(moved, key=lambda row: row.seq)


def found_in(rows: Sequence[Row], last: int = 0) -> list[tuple[int | None, str]]:
    problems = diagnose(0, rows, 1, last or len(rows), FIRST_HASH)
    return [(problem.row, problem.kind) for problem in problems]


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        (lambda rows: rows, []),
        (
            lambda rows: changed(rows, 1, 2, COUNT),
            [(1, "changed"), (2, "changed"), (20, "changed")],
        ),
        (lambda rows: other_hash(rows, 5), [(5, "changed")]),
        (lambda rows: other_hash(changed(rows, 12), 5), [(5, "changed"), (12, "changed")]),
        (lambda rows: hashed_anew(rows, 5), [(6, "changed")]),
        (lambda rows: put_in(rows, 1), [(1, "inserted")]),
        (lambda rows: changed(put_in(rows, 5), 12), [(5, "inserted"), (12, "changed")]),
        (lambda rows: other_hash(put_in(rows, 5), 12), [(5, "inserted"), (12, "changed")]),
        (lambda rows: put_in(put_in(rows, 5), 12), [(5, "inserted"), (12, "inserted")]),
        (lambda rows: taken_out(put_in(rows, 5), 12), [(5, "inserted"), (12, "deleted")]),
        (lambda rows: taken_out(rows, 5, 3), [(5, "deleted")]),
        (lambda rows: changed(taken_out(rows, 5, 3), 10), [(5, "deleted"), (10, "changed")]),
        (lambda rows: put_in(taken_out(rows, 5, 3), 10), [(5, "deleted"), (10, "inserted")]),
        (lambda rows: swapped(rows, 4, 5), [(4, "swapped"), (5, "swapped")]),
        (lambda rows: swapped(rows, 4, 9), [(4, "swapped"), (9, "swapped")]),
        (lambda rows: swapped(rows, 18, 20), [(18, "swapped"), (20, "swapped")]),
        (
            lambda rows: swapped(swapped(rows, 2, 9), 4, 12),
            [(2, "swapped"), (4, "swapped"), (9, "swapped"), (12, "swapped")],
        ),
        (
            lambda rows: changed(swapped(rows, 4, 5), 8, 12),
            [(4, "swapped"), (5, "swapped"), (8, "changed"), (12, "changed")],
        ),
        (
            lambda rows: changed(swapped(rows, 4, 9), 12),
            [(4, "swapped"), (9, "swapped"), (12, "changed")],
        ),
        (
            lambda rows: changed(swapped(rows, 4, 9), 5),
            [(4, "swapped"), (5, "changed"), (9, "swapped")],
        ),
        (
            lambda rows: swapped(put_in(rows, 3), 8, 9),
            [(3, "inserted"), (8, "swapped"), (9, "swapped")],
        ),
        (
            lambda rows: swapped(put_in(rows, 3), 8, 12),
            [(3, "inserted"), (8, "swapped"), (12, "swapped")],
        ),
        (lambda rows: without(rows, 1), [(1, "deleted")]),
        (lambda rows: without(rows, 3, 4, 9), [(3, "deleted"), (9, "deleted")]),
        (lambda rows: changed(without(rows, 3), 9), [(3, "deleted"), (9, "changed")]),
    ],
)
def test_each_thing_that_was_done_is_told_by_its_row(
    tampering: Callable[[list[Row]], list[Row]], found: list[tuple[int, str]]
) -> None:
    assert found_in(tampering(chain())) == found


def test_rows_that_are_missing_at_the_end_are_told_with_their_numbers() -> None:
    (problem,) = diagnose(3, chain(number=3)[:18], 1, COUNT, FIRST_HASH)
    assert problem.detail == "Chain 3: Rows 19 to 20 are missing."
    (problem,) = diagnose(0, chain()[:19], 1, COUNT, FIRST_HASH)
    assert (problem.row, problem.detail) == (20, "Row 20 is missing.")
    (problem,) = diagnose(0, without(chain(), 7), 1, COUNT, FIRST_HASH)
    assert problem.detail == "Row 7 is missing."


def test_a_changed_row_is_told_with_the_one_that_it_does_not_follow() -> None:
    (problem,) = diagnose(0, changed(chain(), 7), 1, COUNT, FIRST_HASH)
    assert problem.detail.startswith("Row 7 does not follow row 6:")


def test_rows_that_went_round_in_a_ring_of_three_are_not_called_swapped() -> None:
    found = found_in(swapped(swapped(chain(), 4, 9), 9, 14))
    assert {kind for _, kind in found} == {"changed"}
    assert {4, 9, 14} <= {row for row, _ in found}


def test_how_many_rows_were_taken_out_is_told_up_to_a_number() -> None:
    (problem,) = diagnose(0, taken_out(chain(100), 5, 64), 1, 36, FIRST_HASH)
    assert "Before row 5, 64 were taken out" in problem.detail
    assert {kind for _, kind in found_in(taken_out(chain(100), 5, 65))} == {"changed"}


def test_rows_in_the_middle_of_a_chain_are_looked_at_from_the_hash_before_them() -> None:
    rows = changed(chain(), 12)
    (problem,) = diagnose(0, rows[9:], 10, COUNT, rows[8].hash)
    assert (problem.row, problem.kind) == (12, "changed")
    assert diagnose(0, rows[14:], 15, COUNT, None) == []


def test_of_more_problems_than_anybody_reads_the_first_are_told() -> None:
    rows = chain(MAX_PROBLEMS + 10)
    found = found_in(changed(rows, *range(1, len(rows) + 1)))
    assert found == [(seq, "changed") for seq in range(1, MAX_PROBLEMS + 1)]


SEPARATOR = "|"
OWN = ("id", "run", "step", "idempotency_key")


def looked_at(rows: Sequence[Row], first: int, last: int, before: bytes | None) -> Checked:
    """What a quick look finds, at rows as the database gives them for one."""
    texts = COLUMNS[INTEGERS:]
    compact = [
        (
            row.chain,
            row.seq,
            *row.entry[:INTEGERS],
            row.hash,
            *(getattr(row.entry, name) for name in OWN),
            SEPARATOR.join(getattr(row.entry, name) for name in texts if name not in OWN),
        )
        for row in rows
    ]
    return check(compact, SEPARATOR, (0, first, last), before, Counted())


@pytest.mark.parametrize("seq", [1, 2, 500, 501, 502, 1001])
def test_the_first_row_that_is_not_right_is_found_wherever_it_is(seq: int) -> None:
    rows = chain(1001)
    for wrong in (changed(rows, seq, 1001), without(rows, seq)):
        checked = looked_at(wrong, 1, 1001, FIRST_HASH)
        assert (checked.bad_seq, checked.rows) == (seq, len(wrong))
    checked = looked_at(rows, 1, 1001, FIRST_HASH)
    assert (checked.bad_seq, checked.rows) == (None, 1001)


def test_a_stretch_that_begins_after_a_missing_row_or_elsewhere_is_not_right() -> None:
    rows = chain()
    assert looked_at(rows[9:], 10, COUNT, None).bad_seq == 10
    assert looked_at(rows[9:], 10, COUNT, rows[8].hash).bad_seq is None
    assert looked_at([], 1, 1, FIRST_HASH).bad_seq == 1
    assert looked_at([], 1, 0, FIRST_HASH).bad_seq is None


def test_a_row_is_read_from_the_columns_of_the_table() -> None:
    rows = chain(number=3)
    columns = [(row.seq, row.chain, *row.entry, row.hash) for row in rows]
    assert list(map(read_row, columns)) == rows
