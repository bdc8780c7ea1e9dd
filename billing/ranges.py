"""Stretches of time as people name them: "last month", dates, moments. UTC, half open."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta

from dsfn.billing.periods import DAY_US, Month, day_text, instant_of
from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass

MAX_DAYS = 3_660
NAMES = (
    "today",
    "yesterday",
    "this week",
    "last week",
    "this month",
    "last month",
    "this year",
    "last year",
)


@dataclass(frozen=True, slots=True)
class Range:
    """[start_us, end_us) of the books."""

    start_us: int
    end_us: int

    @classmethod
    def of(cls, month: Month) -> Range:
        """A whole month."""
        return cls(month.start_us, month.end_us)

    @property
    def month(self) -> Month | None:
        """The month that this is, exactly."""
        month = Month.containing(self.start_us)
        return month if (month.start_us, month.end_us) == (self.start_us, self.end_us) else None


def named(words: str, now_us: int) -> Range:
    """What words such as "last month" or "last 7 days" mean now; weeks begin on Monday.

    "Last 7 days" are whole days and today is none of them. Raises `UsageError`.
    """
    text = " ".join(words.lower().split())
    days = re.fullmatch("last ([1-9][0-9]{0,3}) days?", text)
    today = date.fromisoformat(day_text(now_us // DAY_US))
    if days is not None and int(days[1]) <= MAX_DAYS:
        return _days(today - timedelta(int(days[1])), today)
    if text not in NAMES:
        known = ", ".join(f"'{name}'" for name in NAMES)
        raise UsageError(
            f"{words!r} is not a time of the books; there are {known}, 'last N days' with N at most"
            f" {MAX_DAYS}."
        )
    return _NAMED[text](today)


def between(start: str, end: str) -> Range:
    """From a date or moment to another, which does not belong to it. Raises `UsageError`."""
    start_us, end_us = _instant(start), _instant(end)
    if end_us <= start_us:
        raise UsageError(f"{end!r} is not after {start!r}.")
    if end_us - start_us > MAX_DAYS * DAY_US:
        raise UsageError(f"There are more than {MAX_DAYS} days from {start!r} to {end!r}.")
    return Range(start_us, end_us)


def _instant(text: str) -> int:
    is_date = re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text)
    try:
        moment = datetime.fromisoformat(f"{text}T00:00:00Z" if is_date else text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment.year < 1970:
        raise UsageError(
            f"{text!r} is neither a date, such as 2026-11-01, nor a moment with its offset, such as"
            " 2026-11-01T12:00:00Z."
        )
    return max(0, instant_of(moment))


def _days(start: date, end: date) -> Range:
    first = date(1970, 1, 1).toordinal()
    return Range(
        max(0, start.toordinal() - first) * DAY_US, max(0, end.toordinal() - first) * DAY_US
    )


def _week(today: date, before: int) -> Range:
    monday = today - timedelta(today.weekday() + 7 * before)
    return _days(monday, monday + timedelta(7))


def _month(day: date) -> Range:
    return Range.of(Month.parse(day.isoformat()[:7]))


def _year(year: int) -> Range:
    return _days(date(year, 1, 1), date(year + 1, 1, 1))


_NAMED: dict[str, Callable[[date], Range]] = {
    "today": lambda today: _days(today, today + timedelta(1)),
    "yesterday": lambda today: _days(today - timedelta(1), today),
    "this week": lambda today: _week(today, 0),
    "last week": lambda today: _week(today, 1),
    "this month": _month,
    "last month": lambda today: _month(today.replace(day=1) - timedelta(1)),
    "this year": lambda today: _year(today.year),
    "last year": lambda today: _year(today.year - 1),
}
