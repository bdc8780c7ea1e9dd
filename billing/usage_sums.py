"""Sums of usage for bills, whichever database has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from dsfn.billing.ledger import Crossing, UsageSum
from dsfn.billing.periods import DAY_US
from dsfn.billing.queries import Execute, Values
from dsfn.billing.selection import MAX_SUMS, NOT_ROLLED_UP, Selection, too_many
from dsfn.billing.usage import Usage

_MANY = 2**62


def sums(read: Execute, selection: Selection) -> list[UsageSum]:
    """The rows of calls that lie in a stretch of time and in one day: those of whole days from
    roll-ups, if these can tell them apart, the others from the journal. Raises `UsageError` for
    too many by run or step."""
    limited = selection.by in NOT_ROLLED_UP
    most = MAX_SUMS + 1 if limited else _MANY
    found = [
        UsageSum(*values)
        for query, part in _parts(selection)
        for values in read(query, {**part.bindings(), "most": most})
    ]
    if limited and len(found) > MAX_SUMS:
        raise too_many(selection)
    return found


def paddings(
    read: Execute,
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
    found = read("sum_padding", {**selection.bindings(), **more})
    return [UsageSum(*values) for values in found]


def crossing(
    stream: Callable[[str, Values], Iterator[Any]], selection: Selection
) -> Iterator[Crossing]:
    """The rows of calls that have a part in a stretch of time and do not lie in one day of it."""
    for *values, sign in stream("select_crossing", selection.bindings()):
        yield Crossing(Usage(*values), sign)


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
