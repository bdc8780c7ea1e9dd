"""Bills as FOCUS datasets."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from bills import LINES, USAGE, bill

from dsfn.billing.exports.focus import COLUMNS, Accounts, to_focus
from dsfn.billing.lines import Line
from dsfn.billing.statement import Statement

ROOT = Path(__file__).parents[2]
VALIDATOR = ROOT / ".focus" / "bin" / "focus-validator"
ACCOUNTS = Accounts("Northwind GmbH", {"acme": "Acme S.à r.l."}, {"acme": "2026-11-0007"})
# Mandatory in "Cost and Usage" of FOCUS 1.2.
MANDATORY = {
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd",
    "ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost",
    "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory",
    "ServiceName",
}  # fmt: skip


def charges(statement: Statement) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_focus(statement, ACCOUNTS), newline="")))


def test_all_mandatory_columns_are_there_and_own_ones_come_last() -> None:
    own = [name for name in COLUMNS if name.startswith("x_")]
    assert set(COLUMNS) >= MANDATORY
    assert COLUMNS[-len(own) :] == tuple(own)
    assert all(re.fullmatch("(x_)?([A-Z][a-z]+)+", name) for name in COLUMNS)
    for charge in charges(bill()):
        assert all(charge[name] for name in MANDATORY - {"ChargeClass", "PricingQuantity",
                                                         "PricingUnit"})  # fmt: skip


def test_the_costs_of_an_account_add_up_to_its_invoice_exactly() -> None:
    lines = (*LINES, replace(USAGE, tenant="bolt", amount_minor=1))
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for charge in charges(bill(lines=lines, exponent=3, currency="KWD")):
        assert re.fullmatch(r"-?\d+\.\d{3}", charge["BilledCost"])
        for column in ("ContractedCost", "EffectiveCost", "ListCost"):
            assert charge[column] == charge["BilledCost"]
        sums[charge["BillingAccountId"]] += Decimal(charge["BilledCost"])
    total = sum(line.amount_minor for line in LINES)
    assert sums == {"acme": Decimal(total) / 1000, "bolt": Decimal("0.001")}


def test_usage_has_its_time_in_seconds_and_who_it_was_for() -> None:
    line = replace(USAGE, workflow="album", run="r-1", step="embed", key="key-1", revision="e-1")
    (charge,) = charges(bill(lines=(line,), status="closed"))
    expected = {
        "ChargeCategory": "Usage", "PricingQuantity": "41401.000001", "PricingUnit": "Seconds",
        "ConsumedQuantity": "41401.000001", "BillingAccountName": "Acme S.à r.l.",
        "InvoiceId": "2026-11-0007", "InvoiceIssuerName": "Northwind GmbH",
        "BillingPeriodStart": "2026-11-01T00:00:00Z", "BillingPeriodEnd": "2026-12-01T00:00:00Z",
        "x_Tenant": "acme", "x_Function": "embed-text", "x_DeviceClass": "NVIDIA L4",
        "x_Workflow": "album", "x_Run": "r-1", "x_Step": "embed", "x_ApiKey": "key-1",
        "x_Revision": "e-1", "x_RequestCount": "1234", "x_IsEstimate": "false",
    }  # fmt: skip
    assert {name: charge[name] for name in expected} == expected


def test_what_changes_the_list_price_has_a_category_and_no_quantity() -> None:
    categories = {charge["x_LineKind"]: charge["ChargeCategory"] for charge in charges(bill())}
    assert categories == {
        "usage": "Usage", "correction": "Usage", "allowance": "Credit", "tier": "Adjustment",
        "discount": "Adjustment", "minimum": "Adjustment", "tax": "Tax",
    }  # fmt: skip
    for charge in charges(bill()):
        if charge["ChargeCategory"] != "Usage":
            assert (charge["PricingQuantity"], charge["PricingUnit"]) == ("", "")


def test_a_correction_has_the_period_in_which_it_was_served() -> None:
    late = replace(USAGE, kind="correction", service_month="2026-02")
    (charge,) = charges(bill(lines=(late,)))
    assert charge["ChargeClass"] == "Correction"
    assert charge["ChargePeriodStart"] == "2026-02-01T00:00:00Z"
    assert charge["ChargePeriodEnd"] == "2026-03-01T00:00:00Z"
    assert charge["BillingPeriodStart"] == "2026-11-01T00:00:00Z"
    (charge,) = charges(bill(by="day", lines=(replace(late, day="2026-02-28"),)))
    assert charge["ChargePeriodStart"] == "2026-02-28T00:00:00Z"
    assert charge["ChargePeriodEnd"] == "2026-03-01T00:00:00Z"


def test_a_charge_by_day_has_that_day() -> None:
    (charge,) = charges(bill(by="day", lines=(replace(USAGE, day="2026-11-30"),)))
    assert charge["ChargePeriodStart"] == "2026-11-30T00:00:00Z"
    assert charge["ChargePeriodEnd"] == "2026-12-01T00:00:00Z"


def test_every_kind_of_line_can_be_exported() -> None:
    note = Line("credit", "acme", amount_minor=-5, note="as agreed")
    assert charges(bill(lines=(note,)))[0]["ChargeCategory"] == "Credit"


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(bill(), id="open"),
        pytest.param(bill(status="closed", currency="JPY", exponent=0), id="closed"),
        pytest.param(
            bill(by="day", lines=(replace(USAGE, day="2026-11-03", function='a,"b"\n;'),)), id="day"
        ),
    ],
)
def test_focus_validator_finds_nothing_wrong(statement: Statement, tmp_path: Path) -> None:
    if not VALIDATOR.exists():
        reason = "This test needs focus-validator: run `make focus`."
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    data = tmp_path / "focus.csv"
    # Valid Unicode to it is ASCII.
    invoices = {} if statement.status == "open" else ACCOUNTS.invoices
    accounts = Accounts("Northwind GmbH", {"acme": "Acme Inc."}, invoices)
    data.write_text(to_focus(statement, accounts), encoding="utf-8", newline="")
    # It looks for its own files where it is.
    (place,) = VALIDATOR.parents[1].glob("lib/python3.*/site-packages")
    arguments = ["--data-file", str(data), "--validate-version", "1.2", "--block-download"]
    output = subprocess.run(
        [str(VALIDATOR), *arguments],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    found = re.search(r"^Total: \d+ \| Pass: (\d+) \| Fail: (\d+)", output, re.MULTILINE)
    assert found is not None, output
    # It checks apart what the specification joins by "or": that InvoiceId is null, which it must
    # be without an invoice, and that it is not, which it must be with one.
    expected = "InvoiceId-C-005-C" if statement.status == "open" else "InvoiceId-C-004-C"
    assert re.findall(r"^❌ ([\w-]+):", output, re.MULTILINE) == [expected]
    assert "✅ InvoiceId-C-003-C: PASS" in output
    assert int(found[1]) > 130
