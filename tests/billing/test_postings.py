"""What can be posted beside usage, and its limits."""

from __future__ import annotations

from typing import Any

import pytest

from dsfn.billing.charge import Charge
from dsfn.billing.checking import MAX_AMOUNT_NANO, MAX_DEVICES, MAX_DURATION_US, MAX_INSTANT_US
from dsfn.billing.interval import Interval
from dsfn.billing.reservation import Reservation

INTERVAL: dict[str, Any] = {
    "kind": "held",
    "id": "lease-1/0",
    "lease": "lease-1",
    "device": "gpu:0+gpu:1",
    "devices": 2,
    "device_class": "NVIDIA L4",
    "function": "echo",
    "revision": "echo-1",
    "tenant": "",
    "started_at_us": 0,
    "duration_us": 1,
}
RESERVATION: dict[str, Any] = {
    "kind": "reserve",
    "id": "i-1",
    "tenant": "default",
    "key_id": "",
    "currency": "USD",
    "amount_nano": 1,
    "at_us": 0,
}
CHARGE: dict[str, Any] = {
    "kind": "invoice",
    "id": "2026-0001",
    "tenant": "default",
    "currency": "USD",
    "amount_nano": 1,
    "rounding_nano": 0,
    "period": "2026-11",
    "at_us": 0,
}


def test_postings_at_every_limit_can_be_built() -> None:
    far = {"started_at_us": MAX_INSTANT_US, "duration_us": MAX_DURATION_US, "devices": MAX_DEVICES}
    Interval(**{**INTERVAL, **far, "closes": True})
    Reservation(**{**RESERVATION, "amount_nano": MAX_AMOUNT_NANO, "at_us": MAX_INSTANT_US})
    most = {"amount_nano": MAX_AMOUNT_NANO, "rounding_nano": -MAX_AMOUNT_NANO}
    Charge(**{**CHARGE, **most, "at_us": MAX_INSTANT_US})


@pytest.mark.parametrize(
    ("kind", "example", "changes"),
    [
        (Interval, INTERVAL, {"kind": "busy"}),
        (Interval, INTERVAL, {"lease": ""}),
        (Interval, INTERVAL, {"devices": 0}),
        (Interval, INTERVAL, {"devices": MAX_DEVICES + 1}),
        (Interval, INTERVAL, {"duration_us": -1}),
        (Interval, INTERVAL, {"duration_us": 1.0}),
        (Interval, INTERVAL, {"reason": "boredom"}),
        (Interval, INTERVAL, {"closes": 1}),
        (Interval, INTERVAL, {"closes": True, "kind": "idle"}),
        (Interval, INTERVAL, {"revision": "\0"}),
        (Reservation, RESERVATION, {"kind": "held"}),
        (Reservation, RESERVATION, {"tenant": ""}),
        (Reservation, RESERVATION, {"amount_nano": MAX_AMOUNT_NANO + 1}),
        (Reservation, RESERVATION, {"amount_nano": True}),
        (Reservation, RESERVATION, {"at_us": 2**63}),
        (Charge, CHARGE, {"kind": "gift"}),
        (Charge, CHARGE, {"amount_nano": -1}),
        (Charge, CHARGE, {"rounding_nano": "1"}),
        (Charge, CHARGE, {"period": "2026-13"}),
        (Charge, CHARGE, {"note": "\ud800"}),
    ],
)
def test_what_the_books_cannot_keep_is_refused_by_name(
    kind: Any, example: dict[str, Any], changes: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        kind(**{**example, **changes})


def test_usage_that_was_stored_before_it_knew_of_devices_can_be_read(make_usage: Any) -> None:
    row = make_usage()
    old = [getattr(row, name) for name in row.__slots__[:13]]
    assert type(row)(*old) == row
