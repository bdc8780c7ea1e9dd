"""The check that goes on while a ledger is written: the rows that came, as they came."""

from __future__ import annotations

from dsfn.billing.canonical import FIRST_HASH
from dsfn.billing.chain import Head
from dsfn.billing.chain_check import diagnose, read_row
from dsfn.billing.totals_check import lease_problem
from dsfn.billing.verification import Problem
from dsfn.billing.verify import Books

# Of the leases that do not come to zero, those that are named at a time.
_MAX_LEASES = 10


class Audit:
    """Follows the chains of a ledger from where they are now. Belongs to one thread.

    What was there before is what `verify` is for: this one is cheap enough to never end. It
    finds rows that did not stay as they were posted, and leases that were closed and whose
    requests, restores and idle time are not what they held.
    """

    def __init__(self, books: Books) -> None:
        """Begins at the last rows. Raises what reading raises."""
        self._books = books
        self._named: set[str] = set()
        with books.snapshot() as snapshot:
            self._heads = dict(snapshot.heads())

    def step(self, max_rows: int) -> tuple[int, list[Problem]]:
        """Looks at the next rows of each chain, at most so many; how many there were, and what is
        wrong. What was named once is not named again."""
        with self._books.snapshot() as snapshot:
            heads = dict(snapshot.heads())
            leases = snapshot.broken_leases(_MAX_LEASES)
        # Chains of which nothing is left are to be looked at, too.
        chains = sorted({*heads, *self._heads})
        looked = [self._look_at(chain, heads.get(chain, Head()), max_rows) for chain in chains]
        problems = [problem for _, found in looked for problem in found]
        problems += [lease_problem(*lease) for lease in leases]
        fresh = [problem for problem in problems if problem.detail not in self._named]
        self._named.update(problem.detail for problem in fresh)
        return sum(rows for rows, _ in looked), fresh

    def _look_at(self, chain: int, head: Head, max_rows: int) -> tuple[int, list[Problem]]:
        known = self._heads.get(chain, Head(0, FIRST_HASH))
        if head.seq < known.seq:
            self._heads[chain] = head
            detail = f"Rows {head.seq + 1} to {known.seq} are missing; they were there before."
            return 0, [Problem(head.seq + 1, "cut off", detail)]
        first, last = known.seq + 1, min(head.seq, known.seq + max_rows)
        if first > last:
            return 0, []
        rows = list(map(read_row, self._books.rows(chain, first, last)))
        self._heads[chain] = Head(last, rows[-1].hash if rows else known.hash)
        return len(rows), diagnose(chain, rows, first, last, known.hash)
