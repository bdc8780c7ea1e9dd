"""Invoices and statements that tests of printing and of exports share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dsfn.billing.invoice import DayAmount, Invoice
from dsfn.billing.ledger import DeviceTime
from dsfn.billing.lines import Line
from dsfn.billing.parties import Party
from dsfn.billing.periods import Month
from dsfn.billing.statement import Statement

NOVEMBER = Month.parse("2026-11")
USAGE = Line(
    "usage",
    "acme",
    function="embed-text",
    device_class="NVIDIA L4",
    card=1,
    requests=1_234,
    quantity_us=41_401_000_001,
    busy_us=40_000_000_000,
    held_us=41_401_000_001,
    restore_us=7_000,
    amount_nano=4_142_000_000_001,
    amount_minor=414_200,
)
LINES = (
    USAGE,
    replace(USAGE, function="rank", kind="correction", service_month="2026-10", amount_minor=123),
    Line("allowance", "acme", device_class="NVIDIA L4", card=1, quantity_us=3_600_000_000,
         amount_minor=-360, amount_nano=-3_600_000_000, note="free of charge"),
    Line("tier", "acme", device_class="NVIDIA L4", card=1, quantity_us=37_801_000_000,
         amount_minor=-270, amount_nano=-2_700_000_000, note="graduated tiers"),
    Line("discount", "acme", card=1, amount_minor=-41_369, note="10 %"),
    Line("minimum", "acme", card=1, amount_minor=77, note="the least for a month"),
    Line("tax", "acme", card=1, amount_minor=70_756, note="VAT 19 %"),
)  # fmt: skip


def invoice(**changes: Any) -> Invoice:
    """A closed invoice of November 2026 with every kind of line."""
    closed = Invoice(
        number="2026-11-0007",
        kind="invoice",
        status="closed",
        month="2026-11",
        tenant="acme",
        issued_on="2026-12-01",
        due_on="2026-12-31",
        issuer=Party("Northwind GmbH", ("Speicherstraße 12", "20457 Hamburg"), "DE 812", "a@b.c"),
        customer=Party("Acme S.à r.l.", ("L-1458 Luxembourg",), "LU 123"),
        currency="EUR",
        exponent=2,
        lines=LINES,
        days=(
            DayAmount("2026-11-03", "embed-text", 41_401_000_001, 4_142_000_000_001, 414_200),
            DayAmount("2026-10-30", "rank", 41_401_000_001, 1_230_000_000, 123),
        ),
        terms="Please pay to IBAN DE02.",
    )
    return replace(closed, **changes)


def bill(**changes: Any) -> Statement:
    """A statement of November 2026, not closed, by function."""
    opened = Statement(
        month="2026-11",
        by="function",
        status="open",
        currency="EUR",
        exponent=2,
        total_minor=sum(line.amount_minor for line in LINES),
        lines=LINES,
        devices=(DeviceTime("NVIDIA L4", 90_000_000, 60_000_000, 10_000_000, 20_000_000),),
        start_us=NOVEMBER.start_us,
        end_us=NOVEMBER.end_us,
        tenant="acme",
        expected_minor=1_000_000,
    )
    return replace(opened, **changes)
