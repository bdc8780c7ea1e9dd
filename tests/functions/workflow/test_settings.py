"""What may be set of steps and workflows."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from dsfn.functions.errors import DefinitionError
from dsfn.functions.workflow.dag import StepOptions, WorkflowOptions
from dsfn.functions.workflow.settings import (
    check_step_options,
    check_workflow_options,
    nano,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.05", 50_000_000), ("1", 10**9), (2, 2 * 10**9), (Decimal("1e-9"), 1), ("1E3", 10**12)],
)
def test_amounts_are_exact(value: Any, expected: int) -> None:
    assert nano(value) == expected


@pytest.mark.parametrize("value", ["", "five", "1e-10", "NaN", "Infinity", 0.05, True, None])
def test_what_is_no_amount_is_refused(value: Any) -> None:
    with pytest.raises(DefinitionError, match="budget"):
        nano(value)


def test_settings_have_their_limits() -> None:
    for changes in (
        {"backoff_delay_s": 3601.0},
        {"backoff_delay_s": float("nan")},
        {"timeout_s": 7 * 86_400.0 + 1},
        {"timeout_s": 0.0},
        {"budget_nano": 10**18 + 1},
        {"budget_nano": 0},
    ):
        with pytest.raises(DefinitionError):
            check_step_options(replace(StepOptions(), **changes))
        if "backoff_delay_s" not in changes:
            with pytest.raises(DefinitionError):
                check_workflow_options(replace(WorkflowOptions("a"), **changes))
    check_step_options(StepOptions(100, "linear", 3600.0, 7 * 86_400.0, True, 10**18))
