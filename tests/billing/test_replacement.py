from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dsfn.billing.replacement import Correction, corrected
from dsfn.billing.usage import Usage
from dsfn.functions.errors import UsageError

MakeUsage = Callable[..., Usage]


def test_the_row_that_stands_in_for_another_differs_in_what_was_said(
    make_usage: MakeUsage,
) -> None:
    first = make_usage(invocation_id="a", idempotency_key="k")
    row = corrected(first, Correction("a disk failed", status="platform"))
    assert row == replace(
        first, invocation_id="a.2", idempotency_key="", status="platform", error="a disk failed"
    )
    again = corrected(row, Correction("after all not", status="succeeded", busy_us=0))
    assert (again.invocation_id, again.status, again.busy_us) == ("a.3", "succeeded", 0)
    assert again.held_us == first.held_us


@pytest.mark.parametrize(
    ("correction", "sentence"),
    [
        (Correction(""), "needs a reason"),
        (Correction("x" * 401, status="platform"), "at most 400"),
        (Correction("why"), "says what is different"),
        (Correction("why", status="lost"), "status must be one of"),
        (Correction("why", busy_us=201), "busy_us must be at most 200"),
        (Correction("why", restore_us=-1), "restore_us must be a whole number"),
        (Correction("why", restore_us=1), "restore_us must be at most 0"),
    ],
)
def test_a_correction_says_what_is_different_and_why(
    make_usage: MakeUsage, correction: Correction, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        corrected(make_usage(), correction)


def test_what_a_call_is_charged_of_a_restore_only_becomes_less(make_usage: MakeUsage) -> None:
    first = make_usage(restore_us=500)
    assert corrected(first, Correction("why", busy_us=1)).restore_us == 500
    assert corrected(first, Correction("why", restore_us=499)).restore_us == 499
    assert corrected(first, Correction("why", status="platform")).restore_us == 0
    with pytest.raises(UsageError, match="at most 500"):
        corrected(first, Correction("why", restore_us=501))
    with pytest.raises(UsageError, match="at most 0"):
        corrected(first, Correction("why", status="platform", restore_us=1))
