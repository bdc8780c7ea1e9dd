"""What was used in a stretch of time, cut at its ends and at midnight UTC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dsfn.billing.ledger import Ledger, UsageSum
from dsfn.billing.periods import DAY_US
from dsfn.billing.rates import RateBook, RateCard
from dsfn.billing.selection import Selection
from dsfn.billing.splitting import at_boundaries, by_weight
from dsfn.billing.usage import Usage


def used_in(
    ledger: Ledger, book: RateBook, card: RateCard, selection: Selection
) -> Iterator[UsageSum]:
    """The usage of a stretch that has one rate card, in sums that add up.

    A call that crosses a change of rates or a midnight is split there to the microsecond: its
    held time where it was, its busy time in proportion, by largest remainder. The request
    itself, its restore and what rounds its time up to an increment belong to its first part;
    the increment is that of the card by which it began.
    """
    sums = ledger.sums(selection)
    yield from sums
    classes = sorted({each.device_class for each in sums})
    if rounded := [each for each in classes if card.rate(each).increment_us > 1]:
        yield from ledger.paddings(selection, card, rounded)
    for row, sign in ledger.crossing(selection):
        for part in parts_of(row, book, card, selection):
            yield part if sign > 0 else _taken_back(part)


def parts_of(
    row: Usage, book: RateBook, card: RateCard, selection: Selection
) -> Iterator[UsageSum]:
    """The parts of a row that lie in the stretch."""
    cuts = list(at_boundaries(row.started_at_us, row.held_us, _boundaries(row, book, selection)))
    busy = by_weight(row.busy_us, [held_us for _, held_us in cuts])
    for index, ((start_us, held_us), busy_us) in enumerate(zip(cuts, busy, strict=True)):
        if selection.start_us <= start_us < selection.end_us:
            yield UsageSum(
                tenant=row.tenant,
                function=row.function,
                revision=row.revision,
                device_class=row.device_class,
                status=row.status,
                day=start_us // DAY_US,
                requests=0 if index else 1,
                busy_us=busy_us * row.devices,
                held_us=held_us * row.devices,
                restore_us=0 if index else row.restore_us * row.devices,
                padding_us=0 if index else _padding_us(row, card),
                key_id=row.key_id,
                workflow=row.workflow,
                run=row.run,
                step=row.step,
            )


def _taken_back(part: UsageSum) -> UsageSum:
    return replace(
        part,
        requests=-part.requests,
        busy_us=-part.busy_us,
        held_us=-part.held_us,
        restore_us=-part.restore_us,
        padding_us=-part.padding_us,
    )


def _boundaries(row: Usage, book: RateBook, selection: Selection) -> list[int]:
    """Where a row may be cut: at changes of rates, at midnights, and where a stretch begins and
    ends, in order."""
    end_us = row.started_at_us + row.held_us
    first, last = row.started_at_us // DAY_US, end_us // DAY_US
    midnights = {day * DAY_US for day in range(first + 1, last + 1)}
    return sorted({*midnights, *book.changes_us(), selection.start_us, selection.end_us})


def _padding_us(row: Usage, card: RateCard) -> int:
    """What rounding up adds: to the time that is billed, which is x devices."""
    times_us = (row.busy_us * row.devices, row.held_us * row.devices, row.restore_us * row.devices)
    return card.rate(row.device_class).padding_us(*times_us)
