"""Months and days of the books: UTC, half open, in microseconds since the epoch."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from dsfn.functions.errors import UsageError

DAY_US = 86_400_000_000
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
        """The month written "YYYY-MM", from 1970 on. Raises `UsageError`."""
        match = re.fullmatch("([0-9]{4})-(0[1-9]|1[0-2])", text)
        if match is None or int(match[1]) < 1970:
            raise UsageError(f"{text!r} is not a month; write it like '2026-11'.")
        year, month = int(match[1]), int(match[2])
        start = (date(year, month, 1).toordinal() - _EPOCH) * DAY_US
        return cls(text, start, start + calendar.monthrange(year, month)[1] * DAY_US)

    @classmethod
    def containing(cls, instant_us: int) -> Month:
        """The month that an instant belongs to."""
        return cls.parse(day_text(instant_us // DAY_US)[:7])

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
