"""Moves a ledger from its SQLite file to PostgreSQL, and proves that both are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from dsfn.billing.chain import Head
from dsfn.billing.chain_check import read_row
from dsfn.billing.evidence import Evidence
from dsfn.billing.postgres_ledger import PostgresLedger
from dsfn.billing.queries import Execute
from dsfn.billing.rollups import RollupKey, Totals
from dsfn.billing.snapshot import Snapshot
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.totals_check import Recount
from dsfn.billing.verification import Verification
from dsfn.functions.errors import Conflict
from dsfn.functions.values import dataclass

# What is written in one transaction: a move that is stopped goes on after the last of them.
PORTION_ROWS = 10_000
_CHAIN = 0


@dataclass(frozen=True, slots=True)
class _Beside:
    """What is kept beside the journal: the statements that read it in order and write one row,
    the first columns that name a row, and what a row is called."""

    select: str
    insert: str
    name_columns: int
    called: str


_BESIDE = {
    "cards": _Beside("select_cards", "insert_card", 1, "Rate card"),
    "months": _Beside("select_all_months", "insert_month", 1, "Month"),
    "documents": _Beside("select_all_documents", "insert_document", 1, "Document"),
    "prints": _Beside("select_all_prints", "insert_print", 2, "The print of"),
    "checkpoints": _Beside("select_all_checkpoints", "insert_checkpoint", 1, "Checkpoint"),
}

# Is told how many rows are there, and of how many.
Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Moved:
    """What is in both ledgers. `moved_rows`: of the rows, those that this move brought;
    `head`: the hash of the last row, in hex."""

    rows: int
    moved_rows: int
    head: str
    cards: int
    months: int
    documents: int
    prints: int
    checkpoints: int

    def to_document(self) -> dict[str, Any]:
        """This result as a JSON-able document."""
        return {"equal": True, **asdict(self)}


def move(source: Path, url: str, evidence: Evidence, report: Report) -> Moved:
    """Brings all that a ledger's file holds into a database that is empty, or that an earlier move
    was stopped in. Nothing is taken out of the file.

    The file and the database are checked whole, and compared: number and hash of the last row,
    every sum and balance, and all that is kept beside the journal. Raises `UsageError` when
    another process writes one of the two; `Conflict` when one of them is not right, or the
    database has what the file has not; `StoreUnavailable`, `StorageFull`.
    """
    with closing(SqliteLedger(source)) as old, closing(PostgresLedger(url)) as new:
        _require_right(old.verify(evidence), source.name)
        head = _head(old)
        moved_rows = _move_rows(old, new, head, report)
        beside = {name: _move_beside(old, new, what) for name, what in _BESIDE.items()}
        while new.build_paddings(PORTION_ROWS):
            pass
        _require_right(new.verify(evidence), "the database")
        _require_equal(old, new, head)
    return Moved(head.seq, moved_rows, head.hash.hex(), **beside)


def _move_rows(old: SqliteLedger, new: PostgresLedger, head: Head, report: Report) -> int:
    there = _head(new)
    _require_beginning(old, there)
    for last in range(there.seq, head.seq, PORTION_ROWS):
        report(last, head.seq)
        portion = old.books().rows(_CHAIN, last + 1, min(head.seq, last + PORTION_ROWS))
        rows = [read_row(values) for values in portion]
        new.append([row.entry for row in rows])
        if _head(new) != Head(rows[-1].seq, rows[-1].hash):
            raise Conflict(f"Row {rows[-1].seq} has another hash in the database.")
    report(head.seq, head.seq)
    return head.seq - there.seq


def _require_beginning(old: SqliteLedger, there: Head) -> None:
    """Raises `Conflict` when what is in the database is not how the file begins."""
    with old.books().snapshot() as snapshot:
        known = snapshot.hash_of(_CHAIN, there.seq) if there.seq else there.hash
    if known != there.hash:
        raise Conflict(
            f"The database has {there.seq} rows that are not those of the file: it is another"
            " ledger's, or a node has written to it since. Choose an empty one."
        )


def _move_beside(old: SqliteLedger, new: PostgresLedger, what: _Beside) -> int:
    """Brings what is kept beside the journal; gives how much of it there is."""
    there, count, rows = new.stream(what.select), 0, old.stream(what.select)
    before: tuple[Any, ...] | None = next(there, None)
    while portion := list(islice(rows, PORTION_ROWS)):
        fresh = []
        for row in portion:
            if before is None or row[: what.name_columns] < before[: what.name_columns]:
                fresh.append(row)
                continue
            if row != before:
                raise Conflict(
                    f"{what.called} {before[0]} in the database is not what the file has."
                )
            before = next(there, None)
        new.keep(partial(_insert, what.insert, fresh))
        count += len(portion)
    if before is not None:
        raise Conflict(f"{what.called} {before[0]} is in the database alone.")
    return count


def _insert(statement: str, rows: list[Any], execute: Execute) -> None:
    for row in rows:
        execute(statement, row)


def _head(ledger: SqliteLedger | PostgresLedger) -> Head:
    """The last row of the chain. Raises `Conflict` when there are others."""
    with ledger.books().snapshot() as snapshot:
        heads = dict(snapshot.heads())
    if heads.keys() - {_CHAIN}:
        raise Conflict("The database has rows of other writers: choose an empty one.")
    return heads.get(_CHAIN, Head())


def _require_right(found: Verification, where: str) -> None:
    if not found.ok:
        first = found.problems[0].detail
        raise Conflict(f"The ledger in {where} is not right, so it is not moved: {first}")


def _require_equal(old: SqliteLedger, new: PostgresLedger, head: Head) -> None:
    if _head(old) != head or _head(new) != head:
        raise Conflict("The two ledgers do not end with the same row.")
    with (
        closing(Recount()) as recount,
        old.books().snapshot() as one,
        new.books().snapshot() as other,
    ):
        recount.expect(other.rollups(), other.accounts(), other.reservations())
        for totals in _totals(one):
            recount.add(totals)
        if problems := list(recount.problems(limit=1)):
            raise Conflict(f"The two ledgers do not come to the same: {problems[0].detail}")


def _totals(snapshot: Snapshot) -> Iterator[Totals]:
    """The sums, balances and open reservations that a ledger keeps, in portions."""
    keys = len(RollupKey._fields)
    for values in _portions(snapshot.rollups()):
        yield Totals(sums={each[:keys]: list(each[keys:]) for each in values})
    for values in _portions(snapshot.accounts()):
        balances = {each[:2]: each[2] for each in values}
        yield Totals(balances=balances, closed={each[:2] for each in values if each[3]})
    for values in _portions(snapshot.reservations()):
        yield Totals(reservations={each: 1 for each in values})


def _portions(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while portion := list(islice(rows, PORTION_ROWS)):
        yield portion
