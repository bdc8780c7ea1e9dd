"""The check of a ledger: every row, every sum, every account, every signature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from typing import Any, Protocol

from dsfn.billing.canonical import FIRST_HASH
from dsfn.billing.chain_check import diagnose, read_row
from dsfn.billing.checkpoint_check import CheckpointCheck, read_copies
from dsfn.billing.evidence import Evidence
from dsfn.billing.money_check import MoneyCheck
from dsfn.billing.rounding import Counted
from dsfn.billing.snapshot import Snapshot
from dsfn.billing.stretch_check import Checked, CompactRow, Stretch, check, new_separator
from dsfn.billing.succession import terms_of
from dsfn.billing.totals_check import Recount
from dsfn.billing.verification import MAX_PROBLEMS, Problem, Verification

# The first checkpoint is signed a minute after the first row.
MAX_UNSIGNED_US = 600 * 1_000_000


class Books(Protocol):
    """A ledger as its check needs to read it, whatever keeps it."""

    @property
    def stretch_rows(self) -> int:
        """How many rows are looked at in one go, perhaps beside others."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """The ledger as of now."""

    def rows(self, chain: int, first: int, last: int) -> Iterator[tuple[Any, ...]]:
        """The rows with these numbers that are there, with all columns of the table, in order."""

    def compact_rows(
        self, chain: int, first: int, last: int, separator: str
    ) -> Iterator[CompactRow]:
        """The same rows in fewer columns, some texts as one with `separator` between them."""

    def check(
        self, stretches: Iterable[Stretch], counted: Counted
    ) -> Iterator[tuple[Stretch, Checked]]:
        """What came of checking stretches, in any order. `counted`: of which rows there are
        paddings."""


def verify(books: Books, evidence: Evidence) -> Verification:
    """Looks at everything, in little memory. The rows that come meanwhile are left out.

    Raises what reading raises.
    """
    with books.snapshot() as snapshot:
        last_checkpoint = snapshot.last_checkpoint()
    # Before the database: what is signed meanwhile is there, too, then.
    copies, problems = read_copies(evidence, last_checkpoint)
    with closing(Recount()) as recount:
        with books.snapshot() as snapshot:
            heads = snapshot.heads()
            terms = terms_of(snapshot.checkpoints(), evidence.public_keys)
            money = MoneyCheck(terms, MAX_PROBLEMS)
            recount.expect(
                snapshot.rollups(),
                snapshot.accounts(),
                snapshot.reservations(),
                money.look_at(snapshot),
            )
            counted = snapshot.counted()
            recount.expect_paddings(snapshot.paddings(), counted)
            last = {chain: head.seq for chain, head in heads}
            checkpoints = CheckpointCheck(terms, last, snapshot.hash_of)
            checkpoints.look_at(snapshot.checkpoints(), copies)
            dropped = snapshot.dropped_guards()
        rows, wrong = _check_rows(books, last, counted, recount)
        problems += wrong
        problems += _ahead(counted, last)
        problems += checkpoints.problems
        if evidence.has_notary and not checkpoints.count:
            problems += _unsigned(books, last)
        problems += recount.problems(MAX_PROBLEMS)
        problems += money.problems
        problems += map(_unguarded, dropped)
    return Verification(not problems, rows, checkpoints.count, tuple(problems[:MAX_PROBLEMS]))


def _unguarded(guard: tuple[str, str]) -> Problem:
    table, name = guard
    detail = f"The database lets {table} be changed: its trigger {name} is missing or another."
    return Problem(None, "unguarded", detail)


def _unsigned(books: Books, last: Mapping[int, int]) -> Iterator[Problem]:
    """Whether rows have been there for so long that some must have been signed."""
    for chain, seq in last.items():
        ends = [read_row(values) for at in (1, seq) for values in books.rows(chain, at, at)]
        starts_us = [row.entry.started_at_us for row in ends]
        if ends and max(starts_us) - min(starts_us) > MAX_UNSIGNED_US:
            detail = "There is no checkpoint, though the rows are of more than ten minutes."
            yield Problem(None, "unsigned", detail)
            return


def _ahead(counted: Counted, last: Mapping[int, int]) -> Iterator[Problem]:
    """Paddings that are said to be of rows or cards that there are not."""
    for (card, chain), seq in counted.built.items():
        if not 0 < card <= counted.roundings.cards:
            detail = f"Paddings of chain {chain} are kept for rate card {card}, which there is not."
            yield Problem(None, "padding", detail)
        if seq > last.get(chain, 0):
            detail = f"The paddings of rate card {card} are of more rows than chain {chain} has."
            yield Problem(None, "padding", detail)


def _check_rows(
    books: Books, lasts: Mapping[int, int], counted: Counted, recount: Recount
) -> tuple[int, list[Problem]]:
    """How many rows the chains have, and what is wrong with them."""
    rows, bad_firsts = 0, dict[int, int]()
    stretches = _stretches(lasts, books.stretch_rows)
    for (chain, first, _), checked in books.check(stretches, counted):
        rows += checked.rows
        recount.add(checked.totals)
        recount.add_paddings(checked.paddings)
        if checked.bad_seq is not None:
            bad_firsts[chain] = min(first, bad_firsts.get(chain, first))
    problems = []
    for chain, first in sorted(bad_firsts.items()):
        # Now it matters what was done, and that can be seen only one row after the other.
        last, before = lasts[chain], hash_before(books, chain, first)
        found = map(read_row, books.rows(chain, first, last))
        problems += diagnose(chain, found, first, last, before)
    return rows, problems


def _stretches(lasts: Mapping[int, int], rows: int) -> Iterator[Stretch]:
    """All rows of the chains, at most so many at a time."""
    for chain, last in lasts.items():
        for first in range(1, last + 1, rows):
            yield chain, first, min(last, first + rows - 1)


def hash_before(books: Books, chain: int, first: int) -> bytes | None:
    """What the row `first` of a chain follows; None where the row before it is missing."""
    if first == 1:
        return FIRST_HASH
    before = next(books.rows(chain, first - 1, first - 1), None)
    return None if before is None else read_row(before).hash


def check_stretch(books: Books, stretch: Stretch, counted: Counted) -> Checked:
    """What came of checking one stretch."""
    chain, first, last = stretch
    before, separator = hash_before(books, chain, first), new_separator()
    rows = books.compact_rows(chain, first, last, separator)
    return check(rows, separator, stretch, before, counted)
