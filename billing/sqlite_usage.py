"""Sums of usage for bills, as SQLite has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import apsw

from dsfn.billing.ledger import Crossing, UsageSum
from dsfn.billing.periods import DAY_US
from dsfn.billing.selection import NOT_ROLLED_UP, Selection
from dsfn.billing.sqlite import load_queries
from dsfn.billing.usage import Usage

_QUERIES = load_queries("dsfn.billing", "sql/usage.sql")


def sums(connection: apsw.Connection, selection: Selection) -> list[UsageSum]:
    """The rows of calls that lie in a stretch of time and in one day: those of whole days from
    roll-ups, if these can tell them apart, the others from the journal."""
    return [
        UsageSum(*values)
        for query, part in _parts(selection)
        for values in _rows(connection, query, part.bindings())
    ]


def paddings(
    connection: apsw.Connection,
    selection: Selection,
    device_class: str,
    basis: str,
    increment_us: int,
) -> list[UsageSum]:
    """What rounding their times up to increments adds to the rows of `sums`."""
    more: dict[str, int | str] = {
        "device_class": device_class,
        "basis": basis,
        "increment_us": increment_us,
    }
    found = _rows(connection, "sum_padding", {**selection.bindings(), **more})
    return [UsageSum(*values) for values in found]


def crossing(connection: apsw.Connection, selection: Selection) -> Iterator[Crossing]:
    """The rows of calls that have a part in a stretch of time and do not lie in one day of it."""
    for *values, sign in _rows(connection, "select_crossing", selection.bindings()):
        yield Crossing(Usage(*values), sign)


def months(connection: apsw.Connection) -> list[str]:
    """The months in which something is billed, in order."""
    return [month for (month,) in connection.execute(_QUERIES["select_months"])]


def first_service_us(connection: apsw.Connection, month: str) -> int | None:
    """The first day with usage that is billed in a month, as its first instant."""
    ((day,),) = connection.execute(_QUERIES["select_first_day"], (month,))
    return None if day is None else day * DAY_US


def _parts(selection: Selection) -> Iterator[tuple[str, Selection]]:
    """The queries by which a selection is answered."""
    first_us = -(-selection.start_us // DAY_US) * DAY_US
    last_us = selection.end_us // DAY_US * DAY_US
    if selection.by in NOT_ROLLED_UP or first_us >= last_us:
        yield "sum_rows", selection
        return
    yield "sum_days", replace(selection, start_us=first_us, end_us=last_us)
    if selection.start_us < first_us:
        yield "sum_rows", replace(selection, end_us=first_us)
    if last_us < selection.end_us:
        yield "sum_rows", replace(selection, start_us=last_us)


def _rows(
    connection: apsw.Connection, query: str, bindings: dict[str, int | str]
) -> Iterator[tuple[Any, ...]]:
    yield from connection.execute(_QUERIES[query], bindings)
