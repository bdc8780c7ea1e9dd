from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsfn.billing.checking import MAX_INSTANT_US
from dsfn.billing.periods import DAY_US, Month, day_text, moment_text
from dsfn.functions.errors import UsageError


def instant_us(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("month", "start", "end"),
    [
        ("1970-01", "1970-01-01", "1970-02-01"),
        ("2026-11", "2026-11-01", "2026-12-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2027-01", "2027-01-01", "2027-02-01"),
        ("2028-02", "2028-02-01", "2028-03-01"),
        ("2100-02", "2100-02-01", "2100-03-01"),
    ],
)
def test_a_month_is_half_open_in_utc(month: str, start: str, end: str) -> None:
    parsed = Month.parse(month)
    assert (parsed.start_us, parsed.end_us) == (instant_us(start), instant_us(end))


def test_the_last_month_is_one_whose_end_can_be_written() -> None:
    assert moment_text(Month.parse("9999-11").end_us) == "9999-12-01T00:00:00Z"
    with pytest.raises(UsageError, match=r"'9999-12' is too late: the last month .* 9999-11"):
        Month.parse("9999-12")


def test_a_leap_february_has_a_day_more() -> None:
    lengths = [
        Month.parse(f"{y}-02").end_us - Month.parse(f"{y}-02").start_us for y in (2027, 2028)
    ]
    assert lengths == [28 * DAY_US, 29 * DAY_US]


@given(st.integers(0, MAX_INSTANT_US))
def test_every_instant_belongs_to_one_month_and_day(at_us: int) -> None:
    month = Month.containing(at_us)
    assert month.start_us <= at_us < month.end_us
    assert day_text(at_us // DAY_US).startswith(month.text)
    if month.text != "9999-12":
        assert Month.parse(month.text) == month
    if at_us >= DAY_US * 31:
        assert Month.containing(month.start_us - 1).end_us == month.start_us


@pytest.mark.parametrize(
    "text",
    ["", "2026", "2026-13", "2026-00", "2026-1", "26-01", "2026-01-01", " 2026-01", "2026-01\n",
     "2026/01", "1969-12", "0000-01", "२०२६-०१", "-026-01", "last month"],
)  # fmt: skip
def test_text_that_is_no_month_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="is not a month; write it like '2026-11'"):
        Month.parse(text)


def test_after_a_month_comes_the_next_also_over_a_year() -> None:
    assert Month.parse("2026-11").next() == Month.parse("2026-12")
    assert Month.parse("2026-12").next() == Month.parse("2027-01")
