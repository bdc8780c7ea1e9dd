"""Months and days of the books: UTC, half open, in microseconds since the epoch."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, date, datetime, timedelta

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass

DAY_US = 86_400_000_000
# The one after it ends in a year that dates do not have.
_LAST_MONTH = "9999-11"
_EPOCH = date(1970, 1, 1).toordinal()
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Month:
    """One month, [start_us, end_us)."""

    text: str
    start_us: int
    end_us: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """The month written "YYYY-MM", from 1970-01 to 9999-11. Raises `UsageError`."""
        match = re.fullmatch("([0-9]{4})-(0[1-9]|1[0-2])", text)
        if match is None or int(match[1]) < 1970:
            raise UsageError(f"{text!r} is not a month; write it like '2026-11'.")
        if text > _LAST_MONTH:
            raise UsageError(f"{text!r} is too late: the last month of the books is {_LAST_MONTH}.")
        return cls._of(int(match[1]), int(match[2]))

    @classmethod
    def containing(cls, instant_us: int) -> Month:
        """The month that an instant belongs to."""
        day = date.fromordinal(_EPOCH + instant_us // DAY_US)
        return cls._of(day.year, day.month)

    @classmethod
    def _of(cls, year: int, month: int) -> Month:
        start_us = (date(year, month, 1).toordinal() - _EPOCH) * DAY_US
        end_us = start_us + calendar.monthrange(year, month)[1] * DAY_US
        return cls(f"{year:04}-{month:02}", start_us, end_us)

    def next(self) -> Month:
        """The month after this one."""
        return Month.containing(self.end_us)


def day_text(day: int) -> str:
    """The date of a day counted from 1970-01-01, as "YYYY-MM-DD"."""
    return date.fromordinal(_EPOCH + day).isoformat()


def moment_text(instant_us: int) -> str:
    """An instant in RFC 3339, UTC: "2026-12-01T00:00:00Z"; microseconds where there are some."""
    moment = _BEGINNING + timedelta(microseconds=instant_us)
    return moment.isoformat().replace("+00:00", "Z")


def instant_of(moment: datetime) -> int:
    """The instant of a moment that has an offset; negative before 1970."""
    return (moment.astimezone(UTC) - _BEGINNING) // timedelta(microseconds=1)
