"""A ledger with its months, as tests need one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from dsfn.billing.issued import Issued
from dsfn.billing.months import Months
from dsfn.billing.parties import Parties
from dsfn.billing.periods import DAY_US, Month
from dsfn.billing.rates import RateBook
from dsfn.billing.signing import SigningKey
from dsfn.billing.sqlite_ledger import SqliteLedger


def at_us(text: str) -> int:
    """A moment in UTC."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


@contextmanager
def open_months(
    directory: Path, book: RateBook, parties: Parties | None = None
) -> Iterator[Months]:
    """The months of the ledger in a directory."""
    ledger = SqliteLedger(directory / "ledger.db")
    key = SigningKey.open(directory / "key.pem")
    try:
        yield Months(ledger, lambda: book, parties or Parties(), key, lambda: None)
    finally:
        ledger.close()


def close_month(months: Months, month: str, now_us: int | None = None) -> list[Issued]:
    """Closes a month, a day after its end if no moment is given, as a node does."""
    now_us = Month.parse(month).end_us + DAY_US if now_us is None else now_us
    if months.start_closing(month, now_us):
        months.issue(months.prepare(month, now_us))
    return months.closed(month)[1]
