"""Whether the sums and balances beside a journal are what its rows come to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apsw

from dsfn.billing.periods import day_text
from dsfn.billing.rollups import RollupKey, Totals
from dsfn.billing.rounding import Counted, PaddingKey, Paddings
from dsfn.billing.sqlite import load_queries
from dsfn.billing.verification import Problem

_QUERIES = load_queries("dsfn.billing", "sql/recount.sql")


class Recount:
    """Everything that rows add up to, once as it is kept and once as it is counted.

    It lies in a database of its own, which SQLite keeps on disk when it is large and which is
    gone when this is closed.
    """

    def __init__(self) -> None:
        self._connection = apsw.Connection("")
        self._connection.execute(_QUERIES["schema"]).fetchall()

    def close(self) -> None:
        """Forgets everything."""
        self._connection.close()

    def expect(
        self,
        rollups: Iterable[tuple[Any, ...]],
        accounts: Iterable[tuple[Any, ...]],
        reservations: Iterable[tuple[Any, ...]],
        documents: Iterable[tuple[Any, ...]] = (),
    ) -> None:
        """Takes what is kept: see `Snapshot` for the fields; `documents` are those that
        `MoneyCheck` has looked at."""
        with self._connection as connection:
            connection.executemany(_QUERIES["expect_rollup"], rollups)
            connection.executemany(_QUERIES["expect_account"], accounts)
            connection.executemany(_QUERIES["expect_reservation"], reservations)
            connection.executemany(_QUERIES["expect_document"], documents)

    def add(self, totals: Totals) -> None:
        """Adds what some rows come to."""
        with self._connection as connection:
            connection.executemany(
                _QUERIES["count_rollup"], [(*key, *sums) for key, sums in totals.sums.items()]
            )
            connection.executemany(
                _QUERIES["count_account"],
                [
                    (*account, balance, account in totals.closed)
                    for account, balance in totals.balances.items()
                ],
            )
            connection.executemany(
                _QUERIES["count_reservation"],
                [(*name, count) for name, count in totals.reservations.items()],
            )
            connection.executemany(
                _QUERIES["count_document"],
                [(*name, amount) for name, amount in totals.documents.items()],
            )

    def expect_paddings(self, paddings: Iterable[tuple[Any, ...]], counted: Counted) -> None:
        """Takes what is kept of paddings, by the fields of `PaddingKey`: what is in use of it."""
        with self._connection as connection:
            used = (each for each in paddings if counted.is_used(each[0], each[1]))
            connection.executemany(_QUERIES["expect_padding"], used)

    def add_paddings(self, paddings: Paddings) -> None:
        """Adds what rounding adds to some rows."""
        with self._connection as connection:
            connection.executemany(
                _QUERIES["count_padding"], [(*key, us) for key, us in paddings.items()]
            )

    def problems(self, limit: int) -> Iterator[Problem]:
        """All that differs, at most `limit` of each kind."""
        for values in self._find("differing_rollups", limit):
            yield Problem(None, "sum", _rollup_text(values))
        for values in self._find("differing_paddings", limit):
            yield Problem(None, "padding", _padding_text(values))
        for account, commodity, kept, counted in self._find("differing_accounts", limit):
            detail = f"Account {account} has {kept} of {commodity}, but its rows come to {counted}."
            yield Problem(None, "balance", detail)
        for lease in self._find("broken_leases", limit):
            yield lease_problem(*lease)
        for commodity, total in self._find("unbalanced", limit):
            detail = f"The accounts of {commodity} come to {total} together, and not to 0."
            yield Problem(None, "unbalanced", detail)
        for tenant, id_ in self._find("differing_reservations", limit):
            detail = f"Whether reservation {id_} of {tenant} is open is not what its rows say."
            yield Problem(None, "reservation", detail)
        yield from _document_problems(self._find("differing_documents", limit))

    def _find(self, query: str, limit: int) -> list[Any]:
        return self._connection.execute(_QUERIES[query], (limit,)).fetchall()


def lease_problem(account: str, commodity: str, balance: int) -> Problem:
    """What is wrong with a lease that is closed and does not come to 0."""
    detail = f"{account} is closed, and yet its rows come to {balance} of {commodity}."
    return Problem(None, "lease", detail)


def _document_problems(found: Iterable[tuple[str, str, str, int, int]]) -> Iterator[Problem]:
    records: dict[tuple[str, str], list[int]] = {}
    for number, tenant, kind, is_kept, is_counted in found:
        if kind in ("card", "month"):
            records.setdefault((kind, number), []).append(is_kept)
        else:
            detail = _document_text(number, tenant, kind, is_kept, is_counted)
            yield Problem(None, "document", detail)
    for (kind, number), kept in records.items():
        yield Problem(None, kind, _record_text(kind, number, kept))


def _record_text(kind: str, number: str, kept: list[int]) -> str:
    """`kept`: what differs is kept, or in the journal, or both, each with a digest of its own."""
    what = f"Rate {number.replace('-', ' ')}" if kind == "card" else f"The statement of {number}"
    if len(kept) > 1:
        return f"{what} is another than the one that the journal has a row for."
    if kept[0]:
        return f"{what} was put in: the journal has no row for it."
    return f"{what}, for which the journal has a row, is missing."


def _document_text(number: str, tenant: str, kind: str, is_kept: int, is_counted: int) -> str:
    if not is_counted:
        return f"The journal has no {kind} row for {number} of {tenant}."
    if not is_kept:
        return f"{number}, for which the journal has a row of {tenant} ({kind}), is missing."
    return f"The journal has another amount for {number} of {tenant} than its total."


def _rollup_text(values: tuple[Any, ...]) -> str:
    key = RollupKey._make(values[: len(RollupKey._fields)])
    rows, busy_us, held_us, restore_us = values[len(key) :]
    about = ", ".join(text for text in (key.tenant, key.function, key.device_class) if text)
    return (
        f"The sum of {key.kind} on {day_text(key.day)} of {about} differs from its rows by"
        f" {rows} rows, {busy_us} us busy, {held_us} us held and {restore_us} us of restores."
    )


def _padding_text(values: tuple[Any, ...]) -> str:
    *key, padding_us = values
    about = PaddingKey._make(key)
    what = ", ".join(text for text in (about.tenant, about.function, about.device_class) if text)
    return (
        f"What rate card {about.card} rounds up on {day_text(about.day)} of {what} differs from"
        f" its rows by {padding_us} us."
    )
