"""What was done to the rows of a chain that are not those that were posted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Any, NamedTuple

from dsfn.billing.canonical import row_hash
from dsfn.billing.entry import Entry
from dsfn.billing.verification import MAX_PROBLEMS, Problem
from dsfn.functions.values import dataclass

# Of the changed rows, those that are compared with each other to find out which were swapped.
_MAX_COMPARED = 100
# So many rows that were taken out with all later ones renumbered are found to have been that.
_MAX_TAKEN_OUT = 64


class Row(NamedTuple):
    """One row as it is kept."""

    chain: int
    seq: int
    entry: Entry
    hash: bytes


def read_row(values: tuple[Any, ...]) -> Row:
    """A row from the columns of the table: seq, chain, those of `Entry`, hash."""
    return Row(values[1], values[0], Entry._make(values[2:-1]), values[-1])


def diagnose(
    chain: int, rows: Iterable[Row], first: int, last: int, before: bytes | None
) -> list[Problem]:
    """What is wrong with the rows from `first` to `last`, at most `MAX_PROBLEMS` things."""
    diagnosis = _Diagnosis(chain, first, before)
    for row, following in _with_following(rows):
        if diagnosis.is_full:
            last = row.seq - 1
            break
        diagnosis.look_at(row, following)
    return diagnosis.end(last)


@dataclass(slots=True)
class _Changed:
    """A row that does not follow the one before, whose hash was `before`."""

    before: bytes
    row: Row


@dataclass(slots=True)
class _Diagnosis:
    """Goes through rows that are not all right.

    `before`: the hash that the next row follows, None where it is not known; `shift`: how many
    rows were put in before it, less those taken out, where all later ones were renumbered.
    """

    chain: int
    expected: int
    before: bytes | None
    shift: int = 0
    skips: int = 0
    problems: list[Problem] = field(default_factory=list)
    changed: list[_Changed] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether there are as many problems as anybody would read."""
        return len(self.problems) + len(self.changed) >= MAX_PROBLEMS

    def look_at(self, row: Row, following: Row | None) -> None:
        """Looks at the next row, knowing the one after it."""
        if row.seq > self.expected:
            self._missing(row.seq - 1)
        self.expected = row.seq + 1
        if self.skips:
            self.skips -= 1
        elif self.before is None or self._follows(self.before, row, row.seq - self.shift):
            self.before = row.hash
        else:
            self._classify(self.before, row, following, row.seq - self.shift)

    def end(self, last: int) -> list[Problem]:
        """All that was found, by rows; `last` is the last row that should be there."""
        if self.expected <= last:
            self._missing(last)
        self._find_swaps()
        for each in self.changed:
            seq = each.row.seq
            self._problem(
                seq,
                "changed",
                f"Row {seq} does not follow row {seq - 1}: one of the two is not what was posted.",
            )
        return sorted(self.problems, key=lambda problem: problem.row or 0)

    def _missing(self, last: int) -> None:
        first = self.expected
        what = f"Row {first} is" if first == last else f"Rows {first} to {last} are"
        self._problem(first, "deleted", f"{what} missing.")
        self.before = None

    def _classify(self, before: bytes, row: Row, following: Row | None, seq: int) -> None:
        """Finds out what was done to a row by looking at what the next one follows."""
        anew = row_hash(before, row.chain, seq, row.entry)
        self.before = row.hash
        if following is None:
            self.changed.append(_Changed(before, row))
        elif self._follows(anew, following, seq + 1):
            self._problem(row.seq, "changed", f"The hash of row {row.seq} is not that of the row.")
            self.before = anew
        elif self._are_swapped(before, row, following):
            self._swapped(row.seq, following.seq)
            self.skips = 1
        elif self._follows(before, following, seq):
            self._problem(row.seq, "inserted", f"Row {row.seq} was put in; it was never posted.")
            self.shift += 1
            self.before = before
        elif taken_out := self._taken_out(row, following, seq):
            self._problem(
                row.seq,
                "deleted",
                f"Before row {row.seq}, {taken_out} were taken out and the rest was renumbered.",
            )
            self.shift -= taken_out
        else:
            self.changed.append(_Changed(before, row))

    def _taken_out(self, row: Row, following: Row, seq: int) -> int:
        for count in range(1, _MAX_TAKEN_OUT + 1):
            if self._follows(row.hash, following, seq + 1 + count):
                return count
        return 0

    def _are_swapped(self, before: bytes, row: Row, following: Row) -> bool:
        """Whether two rows that follow each other have each other's numbers."""
        seq = row.seq - self.shift
        return self._follows(before, following, seq) and self._follows(following.hash, row, seq + 1)

    def _find_swaps(self) -> None:
        """Finds changed rows that have each other's places; those that followed them are right."""
        if len(self.changed) > _MAX_COMPARED:
            return
        for index, one in enumerate(self.changed):
            for other in self.changed[index + 1 :]:
                if self._belongs(one.row, other) and self._belongs(other.row, one):
                    self._swapped(one.row.seq, other.row.seq)
                    wrong = {one.row.seq, other.row.seq}
                    wrong |= {
                        each.row.seq
                        for each in self.changed
                        if self._is_right(each, one, other) or self._is_right(each, other, one)
                    }
                    self.changed = [each for each in self.changed if each.row.seq not in wrong]
                    return self._find_swaps()

    def _belongs(self, row: Row, place: _Changed) -> bool:
        return self._follows(place.before, row, place.row.seq - self.shift)

    def _is_right(self, each: _Changed, at: _Changed, belongs_there: _Changed) -> bool:
        """Whether a row follows the one that belongs where another is."""
        row = each.row
        return row.seq == at.row.seq + 1 and self._follows(
            belongs_there.row.hash, row, row.seq - self.shift
        )

    def _follows(self, before: bytes, row: Row, seq: int) -> bool:
        return row_hash(before, row.chain, seq, row.entry) == row.hash

    def _swapped(self, one: int, other: int) -> None:
        self._problem(one, "swapped", f"Rows {one} and {other} have each other's places.")
        self._problem(other, "swapped", f"Rows {other} and {one} have each other's places.")

    def _problem(self, seq: int, kind: str, detail: str) -> None:
        where = f"Chain {self.chain}: " if self.chain else ""
        self.problems.append(Problem(seq, kind, where + detail))


def _with_following(rows: Iterable[Row]) -> Iterator[tuple[Row, Row | None]]:
    """Each row with the one after it, the last with None."""
    last: Row | None = None
    for row in rows:
        if last is not None:
            yield last, row
        last = row
    if last is not None:
        yield last, None
