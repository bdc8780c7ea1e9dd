"""Sums of usage for bills, whichever database has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from dsfn.billing.ledger import Crossing, UsageSum
from dsfn.billing.periods import DAY_US
from dsfn.billing.queries import Execute, Values
from dsfn.billing.selection import MAX_SUMS, NOT_ROLLED_UP, Selection, too_many
from dsfn.billing.usage import Status, Usage

_MANY = 2**62
_MAX_STEPS = 400


def sums(read: Execute, selection: Selection) -> list[UsageSum]:
    """The rows of calls that lie in a stretch of time and in one day: those of whole days from
    roll-ups, if these can tell them apart, the others from the journal. Raises `UsageError` for
    too many by run or step."""
    limited = selection.by in NOT_ROLLED_UP
    most = MAX_SUMS + 1 if limited else _MANY
    found: list[UsageSum] = []
    for query, part in _parts(selection):
        rows = read(query, {**part.bindings(), "most": most})
        found += [sum_in(selection, *values) for values in rows]
        if limited and len(found) > MAX_SUMS:
            raise too_many(selection)
    return found


def crossing(
    stream: Callable[[str, Values], Iterator[Any]], selection: Selection
) -> Iterator[Crossing]:
    """The rows of calls that have a part in a stretch of time and do not lie in one day of it."""
    for *values, sign in stream("select_crossing", selection.bindings()):
        yield Crossing(Usage(*values), sign)


def sum_in(
    selection: Selection,
    tenant: str,
    function: str,
    device_class: str,
    status: Status,
    part: str,
    flow: str,
    requests: int,
    busy_us: int,
    held_us: int,
    restore_us: int,
    padding_us: int = 0,
) -> UsageSum:
    """The sum in a row of a query."""
    by = selection.by
    return UsageSum(
        tenant=tenant,
        function=function,
        revision=part if by == "revision" else "",
        device_class=device_class,
        status=status,
        day=int(part) if by == "day" else 0,
        requests=requests,
        busy_us=busy_us,
        held_us=held_us,
        restore_us=restore_us,
        padding_us=padding_us,
        workflow=part if by == "workflow" else flow,
        run=part if by == "run" else "",
        step=part if by == "step" else "",
        key_id=part if by == "key" else "",
    )


def _parts(selection: Selection) -> Iterator[tuple[str, Selection]]:
    """The queries by which a selection is answered."""
    first_us = -(-selection.start_us // DAY_US) * DAY_US
    last_us = selection.end_us // DAY_US * DAY_US
    if selection.by in NOT_ROLLED_UP or first_us >= last_us:
        for day in days_of(selection):
            yield "sum_rows", day
        return
    yield "sum_days", replace(selection, start_us=first_us, end_us=last_us)
    if selection.start_us < first_us:
        yield "sum_rows", replace(selection, end_us=first_us)
    if last_us < selection.end_us:
        yield "sum_rows", replace(selection, start_us=last_us)


def days_of(selection: Selection) -> Iterator[Selection]:
    """A selection day by day, or in longer steps where it is years: a database groups the rows of
    a day in memory, those of a month not."""
    days = (selection.end_us - selection.start_us) // DAY_US
    step_us = max(1, days // _MAX_STEPS) * DAY_US
    position_us = selection.start_us
    while position_us < selection.end_us:
        next_us = position_us // DAY_US * DAY_US + step_us
        yield replace(selection, start_us=position_us, end_us=min(next_us, selection.end_us))
        position_us = next_us
