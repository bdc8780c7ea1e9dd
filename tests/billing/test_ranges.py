from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dsfn.billing.periods import DAY_US, Month, moment_text
from dsfn.billing.ranges import Range, between, named
from dsfn.functions.errors import UsageError


def at_us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


# A Friday.
NOW_US = at_us("2028-03-03T13:00:00")


@pytest.mark.parametrize(
    ("words", "start", "end"),
    [
        ("today", "2028-03-03", "2028-03-04"),
        ("yesterday", "2028-03-02", "2028-03-03"),
        ("This  Week", "2028-02-28", "2028-03-06"),
        ("last week", "2028-02-21", "2028-02-28"),
        ("this month", "2028-03-01", "2028-04-01"),
        ("last month", "2028-02-01", "2028-03-01"),
        ("this year", "2028-01-01", "2029-01-01"),
        ("last year", "2027-01-01", "2028-01-01"),
        ("last 1 day", "2028-03-02", "2028-03-03"),
        ("last 7 days", "2028-02-25", "2028-03-03"),
    ],
)
def test_words_mean_days_of_the_calendar_in_utc(words: str, start: str, end: str) -> None:
    assert named(words, NOW_US) == Range(at_us(start), at_us(end))


def test_last_month_of_january_is_december_and_of_a_leap_year_has_its_day() -> None:
    assert named("last month", at_us("2028-01-31")).month == Month.parse("2027-12")
    february = named("last month", NOW_US)
    assert february.end_us - february.start_us == 29 * DAY_US


@pytest.mark.parametrize(
    "words", ["", "month", "next month", "last 0 days", "last 3661 days", "last 99999 days"]
)
def test_other_words_are_refused_with_those_that_there_are(words: str) -> None:
    with pytest.raises(UsageError, match="'this month', 'last month', 'this year'"):
        named(words, NOW_US)


def test_a_time_is_from_a_date_or_moment_to_another_which_is_not_in_it() -> None:
    stretch = between("2026-11-01", "2026-11-02T02:30:00+01:00")
    assert moment_text(stretch.start_us) == "2026-11-01T00:00:00Z"
    assert moment_text(stretch.end_us) == "2026-11-02T01:30:00Z"
    assert stretch.month is None
    assert between("2026-11-01", "2026-12-01").month == Month.parse("2026-11")


def test_a_time_has_at_most_3660_days() -> None:
    ten_years = between("2026-01-01", "2036-01-09")
    assert ten_years.end_us - ten_years.start_us == 3_660 * DAY_US
    with pytest.raises(UsageError, match="more than 3660 days"):
        between("2026-01-01", "2036-01-10")


def test_the_first_day_of_the_books_begins_1970_and_nothing_is_before_it() -> None:
    assert between("1970-01-01", "1970-01-02") == named("today", 0) == Range(0, DAY_US)
    assert named("last year", 0) == Range(0, 0)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-11-01", "2026-11-01"),
        ("2026-11-02", "2026-11-01"),
        ("2026-11-01T00:00:00", "2026-11-02"),
        ("2026-11-31", "2026-12-02"),
        ("1969-12-31", "1970-01-02"),
        ("2026-01-01", "2037-01-01"),
        ("now", "2026-11-01"),
    ],
)
def test_a_time_that_makes_no_sense_is_refused(start: str, end: str) -> None:
    with pytest.raises(UsageError, match=f"'{start}'"):
        between(start, end)
