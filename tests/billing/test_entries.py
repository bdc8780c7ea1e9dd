"""What is posted becomes rows that move its amount between accounts, and is read back from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsfn.billing import accounts
from dsfn.billing.charge import Charge
from dsfn.billing.entry import (
    entries_of,
    interval_of,
    period_of,
    reservation_of,
    reversal_of,
    usage_of,
)
from dsfn.billing.interval import Interval
from dsfn.billing.periods import Month
from dsfn.billing.posting import Posting
from dsfn.billing.reservation import Reservation

NOVEMBER, DECEMBER = Month.parse("2026-11"), Month.parse("2026-12")
AT_US = NOVEMBER.start_us + 5
L4 = "us:NVIDIA L4"
INTERVAL = Interval(
    "held", "l-1/0", "l-1", "gpu:0+gpu:1", 2, "NVIDIA L4", "f", "r", "", AT_US, 300, "", False
)
RESERVATION = Reservation("reserve", "i-1", "t", "k", "EUR", 70, AT_US)
CHARGE = Charge("invoice", "2026-11-0001", "t", "EUR", 100, 0, "2026-11", DECEMBER.start_us)


@pytest.fixture
def usage(make_usage: Any) -> Any:
    """A call in which every field is another."""
    return make_usage(
        tenant="t",
        caller="c",
        function="f",
        revision="r",
        device_class="NVIDIA L4",
        started_at_us=AT_US,
        busy_us=150,
        held_us=200,
        restore_us=7,
        status="failed",
        error="HandlerRaised",
        idempotency_key="key",
        device="gpu:0+gpu:1",
        lease="l-1",
        devices=2,
        key_id="k",
        workflow="w",
        run="run",
        step="s",
    )


def moved(posting: Posting) -> list[tuple[str | int, ...]]:
    return [
        (e.source, e.kind, e.amount, e.debit, e.credit, e.commodity)
        for e in entries_of(posting, NOVEMBER.start_us)
    ]


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({}, [("usage", "usage", 400, "tenant/t", "lease/l-1", L4)]),
        ({"status": "platform"}, [("usage", "usage", 400, "platform/faults", "lease/l-1", L4)]),
        (
            {"lease": ""},
            [
                ("usage", "usage", 400, "tenant/t", "capacity/NVIDIA L4", L4),
                ("restore", "restore", 14, "tenant/t", "capacity/NVIDIA L4", L4),
            ],
        ),
        (
            {"lease": "", "restore_us": 0},
            [("usage", "usage", 400, "tenant/t", "capacity/NVIDIA L4", L4)],
        ),
        (
            {"lease": "", "status": "rejected"},
            [("usage", "usage", 0, "tenant/t", "capacity/NVIDIA L4", L4)],
        ),
    ],
)
def test_a_call_takes_its_time_from_its_lease_or_the_devices(
    usage: Any, changes: dict[str, Any], rows: list[tuple[str | int, ...]]
) -> None:
    assert moved(replace(usage, **changes)) == rows


@pytest.mark.parametrize(
    ("changes", "debit", "credit"),
    [
        ({}, "lease/l-1", "capacity/NVIDIA L4"),
        ({"kind": "restore"}, "platform/restore", "lease/l-1"),
        ({"kind": "idle", "reason": "idle"}, "platform/idle", "lease/l-1"),
        ({"kind": "idle", "reason": "fault"}, "platform/faults", "lease/l-1"),
        ({"kind": "idle", "reason": "keep-warm", "tenant": "t"}, "tenant/t", "lease/l-1"),
    ],
)
def test_an_interval_fills_a_lease_or_empties_it(
    changes: dict[str, Any], debit: str, credit: str
) -> None:
    posting = replace(INTERVAL, **changes)
    assert moved(posting) == [("interval", posting.kind, 600, debit, credit, L4)]


def test_money_is_set_aside_and_given_back_once() -> None:
    for kind, source, debit, credit in (
        ("reserve", "reservation", "reserved/t", "budget/t"),
        ("post", "settlement", "budget/t", "reserved/t"),
        ("void", "settlement", "budget/t", "reserved/t"),
    ):
        posting = replace(RESERVATION, kind=kind)  # type: ignore[arg-type]
        assert moved(posting) == [(source, kind, 70, debit, credit, "nano:EUR")]


@pytest.mark.parametrize(
    ("kind", "rounding_nano", "rounding"),
    [
        ("invoice", 1, ("revenue", "rounding")),
        ("invoice", -1, ("rounding", "revenue")),
        ("credit", 1, ("rounding", "revenue")),
        ("credit", -1, ("revenue", "rounding")),
    ],
)
def test_a_document_is_revenue_but_for_its_rounding(
    kind: Any, rounding_nano: int, rounding: tuple[str, str]
) -> None:
    sides = ("receivable/t", "revenue")
    debit, credit = sides if kind == "invoice" else sides[::-1]
    booked = ("document", kind, 100, debit, credit, "nano:EUR")
    charge = replace(CHARGE, kind=kind)
    assert moved(charge) == [booked]
    with_rounding = moved(replace(charge, rounding_nano=rounding_nano))
    assert with_rounding == [booked, ("rounding", kind, 1, *rounding, "nano:EUR")]


def test_a_posting_is_read_back_from_its_row_field_for_field(usage: Any) -> None:
    closing = replace(INTERVAL, closes=True)
    idle = replace(INTERVAL, kind="idle", reason="keep-warm", tenant="t")
    assert usage_of(entries_of(usage, 0)[0]) == usage
    assert [interval_of(entries_of(each, 0)[0]) for each in (INTERVAL, closing, idle)] == [
        INTERVAL,
        closing,
        idle,
    ]
    for kind in ("reserve", "post", "void"):
        posting = replace(RESERVATION, kind=kind)
        assert reservation_of(entries_of(posting, 0)[0]) == posting


def test_a_document_has_its_moment_month_and_reason_in_the_journal() -> None:
    note = replace(CHARGE, kind="credit", note="too slow", reverses="2026-10-0003")
    (entry,) = entries_of(note, 0)
    found = (entry.started_at_us, entry.tenant, entry.id, entry.period, entry.error, entry.reverses)
    assert found == (
        DECEMBER.start_us, "t", "2026-11-0001", "2026-11", "too slow", "2026-10-0003",
    )  # fmt: skip


def test_what_a_row_is_not_about_is_0_or_empty() -> None:
    (held,), (reserved,), (invoiced,) = (
        entries_of(each, 0) for each in (INTERVAL, RESERVATION, CHARGE)
    )
    of_calls = ("caller", "workflow", "run", "step", "idempotency_key")
    of_devices = ("function", "revision", "device", "device_class", "lease", "status")
    for entry, texts in (
        (held, (*of_calls, "key_id", "tenant", "status", "error", "reverses")),
        (reserved, (*of_calls, *of_devices, "error", "reverses")),
        (invoiced, (*of_calls, *of_devices, "key_id", "error", "reverses")),
    ):
        assert {getattr(entry, name) for name in texts} == {""}
        assert (entry.busy_us, entry.restore_us) == (0, 0)
    assert (reserved.devices, reserved.held_us) == (invoiced.devices, invoiced.held_us) == (1, 0)


def test_the_restore_of_a_call_without_a_lease_is_time_of_the_device_and_no_call(
    usage: Any,
) -> None:
    call, restore = entries_of(replace(usage, lease=""), 0)
    assert restore == call._replace(
        kind="restore", source="restore", busy_us=0, held_us=7, restore_us=0, amount=14,
        status="", error="", idempotency_key="",
    )  # fmt: skip


def test_a_reversal_takes_back_what_a_row_moved_in_the_first_open_month(usage: Any) -> None:
    (entry,) = entries_of(usage, 0)
    reversal = reversal_of(entry, NOVEMBER.end_us, "i-1/2")
    assert reversal == entry._replace(
        kind="reversal", source="reversal", debit="lease/l-1", credit="tenant/t",
        error="i-1/2", reverses="i-1", period="2026-12",
    )  # fmt: skip


def test_what_comes_late_is_billed_in_the_first_open_month() -> None:
    for posting in (INTERVAL, replace(INTERVAL, started_at_us=NOVEMBER.end_us - 1)):
        assert entries_of(posting, 0)[0].period == "2026-11"
        assert entries_of(posting, NOVEMBER.end_us)[0].period == "2026-12"
    assert period_of(DECEMBER.end_us, NOVEMBER.end_us) == "2027-01"
    assert entries_of(RESERVATION, NOVEMBER.end_us)[0].period == "2026-11"


def test_a_leases_account_tells_which_lease_it_is_of() -> None:
    assert accounts.lease_of("lease/l-1") == "l-1"
    assert accounts.lease_of("tenant/lease/l-1") is None
