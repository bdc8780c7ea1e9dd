from __future__ import annotations

from collections.abc import Callable

import pytest

from dsfn.billing.checking import MAX_DURATION_US, MAX_INSTANT_US, MAX_TEXT_LENGTH
from dsfn.billing.usage import Usage

MakeUsage = Callable[..., Usage]


def test_a_usage_at_every_limit_can_be_built(make_usage: MakeUsage) -> None:
    make_usage(
        started_at_us=MAX_INSTANT_US,
        busy_us=MAX_DURATION_US,
        held_us=MAX_DURATION_US,
        restore_us=MAX_DURATION_US,
        idempotency_key="ü" * MAX_TEXT_LENGTH,
    )
    make_usage(started_at_us=0, busy_us=0, held_us=0, restore_us=0)


@pytest.mark.parametrize("name", ["started_at_us", "busy_us", "held_us", "restore_us"])
@pytest.mark.parametrize("value", [-1, 2**63, 1.0, True, "1", None])
def test_a_time_that_is_no_whole_number_in_range_is_refused_by_name(
    make_usage: MakeUsage, name: str, value: object
) -> None:
    with pytest.raises(ValueError, match=name):
        make_usage(**{name: value})


@pytest.mark.parametrize("name", ["invocation_id", "tenant", "function", "device_class"])
def test_a_row_that_names_nothing_is_refused(make_usage: MakeUsage, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make_usage(**{name: ""})


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "x" * (MAX_TEXT_LENGTH + 1), b"bytes", None])
def test_text_that_the_books_cannot_keep_is_refused(make_usage: MakeUsage, value: object) -> None:
    with pytest.raises(ValueError, match="idempotency_key"):
        make_usage(idempotency_key=value)


def test_an_unknown_status_is_refused(make_usage: MakeUsage) -> None:
    with pytest.raises(ValueError, match="'done' is not one of succeeded, failed"):
        make_usage(status="done")
