"""Leases that nobody closed, because the node that held them was killed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dsfn.billing.entry import entries_of
from dsfn.billing.interval import Interval, IntervalKind
from dsfn.billing.leases import closing_of
from dsfn.billing.ledger import Ledger
from dsfn.billing.usage import Usage

T0 = 1_790_000_000_000_000


def interval(lease: str, kind: IntervalKind, number: int, duration_us: int) -> Interval:
    return Interval(
        kind=kind,
        id=f"{lease}/{number}",
        lease=lease,
        device="gpu:0+gpu:1",
        devices=2,
        device_class="NVIDIA L4",
        function=f"f-of-{lease}",
        revision="",
        tenant="",
        started_at_us=T0,
        duration_us=duration_us,
        closes=number == 0,
    )


def test_of_each_lease_that_is_left_open_what_is_lacking_is_added(
    ledger: Ledger, make_usage: Callable[..., Usage]
) -> None:
    def call(lease: str, held_us: int) -> Usage:
        return make_usage(
            invocation_id=f"call-of-{lease}",
            device_class="NVIDIA L4",
            devices=2,
            lease=lease,
            held_us=held_us,
            busy_us=0,
            started_at_us=T0,
        )

    ledger.post(
        [
            *(call("more", 700), interval("more", "held", 1, 1000)),
            *(call("less", 700), interval("less", "held", 1, 300), interval("less", "idle", 2, 5)),
            call("unheld", 20),
            *(call("even", 10), interval("even", "held", 1, 10)),
            *(call("over", 10), interval("over", "held", 0, 10)),
        ]
    )
    ledger.close_leases()
    ledger.close_leases()
    for lease in ("more", "less", "unheld", "even", "over"):
        assert ledger.balance(f"lease/{lease}", "us:NVIDIA L4") == 0
        found = [row for row in ledger.intervals(T0, T0 + 10**6) if row.lease == lease]
        assert [row.closes for row in found].count(True) == 1
        assert {row.function for row in found} <= {f"f-of-{lease}", "echo"}
    assert ledger.balance("platform/faults", "us:NVIDIA L4") == 2 * 300
    assert ledger.verify().ok


@pytest.mark.parametrize(
    ("balance", "durations_us"),
    [
        (0, {"held": 0}),
        (2, {"idle": 1, "held": 0}),
        (2_000, {"idle": 1_000, "held": 0}),
        (-2, {"held": 1}),
        (-2_000, {"held": 1_000}),
    ],
)
def test_what_closes_a_lease_is_wall_time_of_its_devices(
    balance: int, durations_us: dict[str, int]
) -> None:
    (first,) = entries_of(interval("l", "held", 1, 5), 0)
    closing = closing_of(first, balance)
    assert {each.kind: each.duration_us for each in closing} == durations_us
    assert [each.kind for each in closing if each.closes] == ["held"]
    assert {each.reason for each in closing} == {"fault"}


def test_an_even_lease_of_one_device_loses_nothing() -> None:
    (first,) = entries_of(interval("l", "held", 1, 5), 0)
    closing = closing_of(first._replace(devices=1), 0)
    assert [(each.kind, each.duration_us) for each in closing] == [("held", 0)]
