"""What is done with many rows: they are checked, billed, and their month is closed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.harness import Spread
from benchmarks.ledgers.calls import MONTH, batches
from benchmarks.ledgers.stores import Place, Store, is_url, open_ledger
from benchmarks.ledgers.writing import post_all
from dsfn.billing.evidence import NO_EVIDENCE
from dsfn.billing.months import Months
from dsfn.billing.parties import Parties
from dsfn.billing.periods import DAY_US, Month
from dsfn.billing.postgres_ledger import PostgresLedger
from dsfn.billing.postgres_verify import open_books
from dsfn.billing.rates import EXAMPLE_CPU, EXAMPLE_GPU, RateCard, RateStore
from dsfn.billing.signing import SigningKey
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.sqlite_verify import SqliteBooks
from dsfn.billing.stretches import all_processes
from dsfn.billing.verify import verify

_BATCH = 1000
# One ledger's file has one writer; a database has a chain for each.
_WRITERS = {"sqlite": 1, "postgresql": 8}
_REPEATS = 5
# Each request's time is rounded up, which sums of it do not tell.
_INCREMENT_US = 100_000
_IN_INCREMENTS = RateCard(
    devices={"cpu": replace(EXAMPLE_CPU, increment_us=_INCREMENT_US)},
    default=replace(EXAMPLE_GPU, increment_us=_INCREMENT_US),
    effective_from_us=Month.parse(MONTH).start_us,
)
# A node takes them in smaller portions, with pauses.
_PORTION_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Checked:
    """How fast a ledger was checked, all of it, by so many processes."""

    store: str
    rows: int
    processes: int
    took_s: float
    rows_per_s: float
    part: str = "verify"


@dataclass(frozen=True, slots=True)
class Billed:
    """What a month of so many rows takes. `what`: "made", "report by ...", "close"; "increments
    counted" is what there is to do once when a card begins in the past."""

    store: str
    what: str
    rows: int
    took_s: Spread
    part: str = "report"


def check(place: Place, store: Store, rows: int) -> Iterator[Checked]:
    """By one process and by as many as there are cores."""
    with _filled(place, store, rows) as (address, _):
        for processes in sorted({1, all_processes()}):
            opened = (
                open_books(address, processes)
                if is_url(address)
                else nullcontext(SqliteBooks(Path(address), processes))
            )
            with opened as books:
                began_s = time.perf_counter()
                found = verify(books, NO_EVIDENCE)
                took_s = time.perf_counter() - began_s
            if not found.ok or found.rows != rows:
                raise RuntimeError(f"The ledger of {rows} rows is not right: {found}")
            yield Checked(store, rows, processes, took_s, round(rows / took_s))


def bill(place: Place, store: Store, rows: int) -> Iterator[Billed]:
    """Reports of a month in which all rows are, then those by a card that was set afterwards and
    rounds each call up, and then its close."""
    with _filled(place, store, rows) as (address, made_s):
        yield Billed(store, "made", rows, Spread.of([made_s]))
        key = SigningKey.open(place.directory / f"{store}.pem")
        with open_ledger(address) as ledger:
            rates = RateStore(ledger.cards(), RateCard(), 0)
            months = _months(ledger, rates, key)
            yield from _reports(months, store, rows, "")
            rates.add(_IN_INCREMENTS, Month.parse(MONTH).end_us)
            yield Billed(store, "increments counted", rows, Spread.of([_count(ledger)]))
            yield from _reports(months, store, rows, ", in increments")
            yield Billed(store, "close", rows, Spread.of([_close(months, rows)]))


def _reports(months: Months, store: Store, rows: int, suffix: str) -> Iterator[Billed]:
    for by in ("function", "day"):
        took_s = Spread.of([_report(months, by, rows) for _ in range(_REPEATS)])
        yield Billed(store, f"report by {by}{suffix}", rows, took_s)


def _count(ledger: SqliteLedger | PostgresLedger) -> float:
    began_s = time.perf_counter()
    while ledger.build_paddings(_PORTION_ROWS):
        pass
    return time.perf_counter() - began_s


@contextmanager
def _filled(place: Place, store: Store, rows: int) -> Iterator[tuple[str, float]]:
    """The address of a new ledger with so many rows, and how long making it took, in seconds."""
    address, writers = place.make(store, f"{store}-{rows}"), _WRITERS[store]
    began_s = time.perf_counter()
    with open_ledger(address, writers) as ledger:
        post_all(ledger, [batches(rows, _BATCH, part, writers) for part in range(writers)])
    made_s = time.perf_counter() - began_s
    yield address, made_s
    place.drop(address)


def _months(ledger: SqliteLedger | PostgresLedger, rates: RateStore, key: SigningKey) -> Months:
    def sign() -> None:
        ledger.checkpoint(key, Month.parse(MONTH).end_us)

    return Months(ledger, lambda: rates.book, Parties(), key, sign)


def _report(months: Months, by: str, rows: int) -> float:
    began_s = time.perf_counter()
    bill = months.report(MONTH, by, "", Month.parse(MONTH).end_us)
    took_s = time.perf_counter() - began_s
    billed = sum(line.requests for line in bill.lines)
    if billed != rows:
        raise RuntimeError(f"The bill by {by} has {billed} of {rows} calls.")
    return took_s


def _close(months: Months, rows: int) -> float:
    """As a node does it: until the invoices are kept and what they follow from is signed."""
    now_us = Month.parse(MONTH).end_us + DAY_US
    began_s = time.perf_counter()
    months.start_closing(MONTH, now_us)
    months.issue(months.prepare(MONTH, now_us))
    took_s = time.perf_counter() - began_s
    _, invoices = months.closed(MONTH)
    if not invoices:
        raise RuntimeError(f"The month of {rows} calls has no invoice.")
    return took_s
