"""The check of a ledger: every row, every sum, every account, every signature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from typing import Any, Protocol

from dsfn.billing.canonical import FIRST_HASH
from dsfn.billing.chain_check import MAX_PROBLEMS, Checked, check, diagnose, read_row
from dsfn.billing.checkpoint_check import CheckpointCheck, read_copies
from dsfn.billing.evidence import Evidence
from dsfn.billing.money_check import MoneyCheck
from dsfn.billing.snapshot import Snapshot
from dsfn.billing.stretches import Stretch
from dsfn.billing.totals_check import Recount
from dsfn.billing.verification import Problem, Verification

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

    def check(self, stretches: Iterable[Stretch]) -> Iterator[Checked]:
        """What came of checking stretches, in their order."""


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
            money = MoneyCheck(evidence, MAX_PROBLEMS)
            recount.expect(
                snapshot.rollups(),
                snapshot.accounts(),
                snapshot.reservations(),
                money.look_at(snapshot),
            )
            last = {chain: head.seq for chain, head in heads}
            checkpoints = CheckpointCheck(evidence, last, snapshot.hash_of)
            checkpoints.look_at(snapshot.checkpoints(), copies)
        rows = 0
        for chain, head in heads:
            count, wrong = _check_chain(books, chain, head.seq, recount)
            rows += count
            problems += wrong
        problems += checkpoints.problems
        if evidence.has_notary and not checkpoints.count:
            problems += _unsigned(books, last)
        problems += recount.problems(MAX_PROBLEMS)
        problems += money.problems
    return Verification(not problems, rows, checkpoints.count, tuple(problems[:MAX_PROBLEMS]))


def _unsigned(books: Books, last: Mapping[int, int]) -> Iterator[Problem]:
    """Whether rows have been there for so long that some must have been signed."""
    for chain, seq in last.items():
        ends = [read_row(values) for at in (1, seq) for values in books.rows(chain, at, at)]
        starts_us = [row.entry.started_at_us for row in ends]
        if ends and max(starts_us) - min(starts_us) > MAX_UNSIGNED_US:
            detail = "There is no checkpoint, though the rows are of more than ten minutes."
            yield Problem(None, "unsigned", detail)
            return


def _check_chain(
    books: Books, chain: int, last: int, recount: Recount
) -> tuple[int, list[Problem]]:
    """How many rows a chain has, and what is wrong with them."""
    firsts = range(1, last + 1, books.stretch_rows)
    stretches = [(chain, first, min(last, first + books.stretch_rows - 1)) for first in firsts]
    rows, bad_first = 0, None
    for first, checked in zip(firsts, books.check(stretches), strict=True):
        rows += checked.rows
        recount.add(checked.totals)
        if bad_first is None and checked.bad_seq is not None:
            bad_first = first
    if bad_first is None:
        return rows, []
    # Now it matters what was done, and that can be seen only one row after the other.
    found = map(read_row, books.rows(chain, bad_first, last))
    return rows, diagnose(chain, found, bad_first, last, hash_before(books, chain, bad_first))


def hash_before(books: Books, chain: int, first: int) -> bytes | None:
    """What the row `first` of a chain follows; None where the row before it is missing."""
    if first == 1:
        return FIRST_HASH
    before = next(books.rows(chain, first - 1, first - 1), None)
    return None if before is None else read_row(before).hash


def check_stretch(books: Books, stretch: Stretch) -> Checked:
    """What came of checking one stretch."""
    chain, first, last = stretch
    before = hash_before(books, chain, first)
    return check(books.rows(chain, first, last), first, last, before)
