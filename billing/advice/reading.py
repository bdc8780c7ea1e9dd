"""The rows of a stretch of time, given to the functions that they are about, with their prices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from dsfn.billing.advice.deployed import Deployed
from dsfn.billing.advice.history import History
from dsfn.billing.interval import Interval
from dsfn.billing.rates import RateBook
from dsfn.billing.usage import Usage


def read(
    calls: Iterable[Usage],
    intervals: Iterable[Interval],
    book: RateBook,
    deployed: Iterable[Deployed],
    start_us: int,
    end_us: int,
) -> Mapping[str, History]:
    """What each deployed function did in [start_us, end_us), by its name.

    `calls` and `intervals` are in the order of their starts and are read once; what is kept of them
    is little. A row is priced by the card in force when it began, times its devices, whoever pays.
    """
    histories = {each.function: History(each, start_us) for each in deployed}
    prices = _Prices(book, start_us, end_us)
    for row in _in_order(iter(calls), intervals):
        history = histories.get(row.function)
        if history is not None:
            price = prices.of(row)
            if isinstance(row, Interval):
                history.interval(row, price)
            else:
                history.call(row, price)
    for history in histories.values():
        history.finish(end_us)
    return histories


def _in_order(calls: Iterator[Usage], intervals: Iterable[Interval]) -> Iterator[Usage | Interval]:
    """By their starts. A call is after what brought its replica back, and before its rest."""
    call = next(calls, None)
    for row in intervals:
        at_us = row.started_at_us + (row.kind == "idle")
        while call is not None and call.started_at_us < at_us:
            yield call
            call = next(calls, None)
        yield row
    if call is not None:
        yield call
    yield from calls


class _Prices:
    """What a microsecond of a row's devices costs, for rows in the order of their starts."""

    def __init__(self, book: RateBook, start_us: int, end_us: int) -> None:
        # There is no segment of a stretch that has not begun: the first is that of the first row.
        self._segments = book.segments(start_us, end_us)
        self._card, self._until_us = book.at(start_us), start_us
        self._known: dict[tuple[str, int], int] = {}

    def of(self, row: Usage | Interval) -> int:
        """In atto-currency."""
        while row.started_at_us >= self._until_us:
            segment = next(self._segments)
            self._card, self._until_us = segment.card, segment.end_us
            self._known.clear()
        key = (row.device_class, row.devices)
        price = self._known.get(key)
        if price is None:
            rate = self._card.rate(row.device_class)
            price = self._known[key] = rate.pico_per_second * row.devices
        return price
