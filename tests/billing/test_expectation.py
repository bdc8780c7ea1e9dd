"""What an open month is expected to come to."""

from __future__ import annotations

from typing import Any

import pytest

from dsfn.billing.expectation import expected_minor
from dsfn.billing.lines import Kind, Line


def line(kind: Kind, amount_minor: int, **more: Any) -> Line:
    return Line(kind, more.pop("tenant", "acme"), amount_minor=amount_minor, **more)


USAGE = line("usage", 1_000, device_class="cpu")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], 0),
        ([USAGE, line("tax", 190)], 3 * 1_190),
        ([USAGE, USAGE], 3 * 2_000),
        ([USAGE, line("tier", -100, device_class="cpu")], 3 * 900),
        ([USAGE, line("discount", -100), line("tax", 90)], 3 * 990),
        # A correction is billed once, with what belongs to it.
        (
            [
                USAGE,
                line("correction", 500, device_class="cpu", service_month="2026-10"),
                line("tax", 100),
                line("tax", 50, service_month="2026-10"),
            ],
            3 * 1_100 + 550,
        ),
        # A minimum is there until usage reaches it.
        ([USAGE, line("minimum", 4_000), line("tax", 500)], 5_500),
        ([USAGE, line("minimum", 1_000), line("tax", 200)], 3_300),
        # An allowance that is used up, and one that is not.
        ([USAGE, line("allowance", -400, device_class="cpu")], 2_600),
        ([USAGE, line("allowance", -1_000, device_class="cpu")], 0),
        ([USAGE, line("allowance", -999, device_class="cpu")], 2_001),
        # One device class whose allowance is used up leaves that of another to grow.
        (
            [
                USAGE,
                line("allowance", -1_000, device_class="cpu"),
                line("usage", 1_000, device_class="H100"),
                line("allowance", -400, device_class="H100"),
            ],
            2_600,
        ),
        # A discount of a tenth of what tiers and an allowance leave stays a tenth.
        (
            [
                USAGE,
                line("allowance", -400, device_class="cpu"),
                line("tier", -100, device_class="cpu"),
                line("discount", -50),
            ],
            (3 * 900 - 400) * 9 // 10,
        ),
        # Each tenant has a minimum of its own.
        ([USAGE, line("minimum", 1, tenant="bob")], 3_001),
    ],
)
def test_only_what_grows_with_the_time_is_expected_to_grow(
    lines: list[Line], expected: int
) -> None:
    assert expected_minor(lines, gone_us=10, whole_us=30) == expected
