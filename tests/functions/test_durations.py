"""Durations as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from dsfn.functions.durations import parse_seconds
from dsfn.functions.errors import DefinitionError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3.0),
        (0.5, 0.5),
        ("200ms", 0.2),
        ("5m", 300.0),
        ("PT0.2S", 0.2),
        ("PT1H30M", 5400.0),
        ("P1DT1S", 86_401.0),
        ("P2D", 172_800.0),
    ],
)
def test_durations_are_numbers_texts_or_iso_8601(value: Any, expected: float) -> None:
    assert parse_seconds(value, "timeout") == pytest.approx(expected)


@pytest.mark.parametrize(
    "value", ["P", "PT", "P1Y", "PT1", "1 day", "", "PT1S1M", f"{10**400}h", True, None]
)
def test_what_is_no_duration_is_refused(value: Any) -> None:
    with pytest.raises(DefinitionError, match="duration"):
        parse_seconds(value, "timeout")
