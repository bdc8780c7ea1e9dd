"""A statement as a FOCUS dataset: the columns in which finance loads the costs of all clouds.

Source: https://focus.finops.org/focus-specification/v1-2/, dataset "Cost and Usage". What it does
not define has the prefix `x_`. Numbers are exact decimals.
"""

from __future__ import annotations

from collections.abc import Mapping

from dsfn.billing.csv import csv_text
from dsfn.billing.lines import Line
from dsfn.billing.money import minor_text
from dsfn.billing.periods import DAY_US, Month, day_text, moment_text
from dsfn.billing.statement import Statement
from dsfn.functions.values import dataclass

VERSION = "1.2"
SERVICE_CATEGORY, SERVICE_SUBCATEGORY = "Compute", "Serverless Compute"
SERVICE_NAME = "dsfn functions"
_MICRO_EXPONENT = 6
_CATEGORIES = {
    "usage": "Usage",
    "correction": "Usage",
    "allowance": "Credit",
    "credit": "Credit",
    "tier": "Adjustment",
    "discount": "Adjustment",
    "minimum": "Adjustment",
    "tax": "Tax",
}
COLUMNS = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "x_ApiKey",
    "x_BusyMicroseconds",
    "x_DeviceClass",
    "x_Function",
    "x_HeldMicroseconds",
    "x_IsEstimate",
    "x_LineKind",
    "x_RateCard",
    "x_RequestCount",
    "x_RestoreMicroseconds",
    "x_Revision",
    "x_Run",
    "x_Step",
    "x_Tenant",
    "x_Workflow",
)


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who is who in a dataset. `names`: what tenants are called beside their ids; `invoices`: the
    numbers of their invoices, of those that have one."""

    issuer: str
    names: Mapping[str, str]
    invoices: Mapping[str, str]


def to_focus(statement: Statement, accounts: Accounts) -> str:
    """The statement's lines, one row each; the costs of a tenant add up to its invoice.

    A charge has the period that its line is about: a day where the statement is by day, otherwise
    all of the statement's.
    """
    return csv_text(COLUMNS, (_charge(line, statement, accounts) for line in statement.lines))


def _charge(line: Line, statement: Statement, accounts: Accounts) -> dict[str, str]:
    cost = _decimal(line.amount_minor, statement.exponent)
    start_us, end_us = _period(line, statement)
    is_usage = line.kind in ("usage", "correction")
    seconds = _decimal(line.quantity_us, _MICRO_EXPONENT) if is_usage else ""
    unit = "Seconds" if is_usage else ""
    return {
        "BilledCost": cost,
        "BillingAccountId": line.tenant,
        "BillingAccountName": accounts.names.get(line.tenant, line.tenant),
        "BillingCurrency": statement.currency,
        "BillingPeriodEnd": moment_text(statement.end_us),
        "BillingPeriodStart": moment_text(statement.start_us),
        "ChargeCategory": _CATEGORIES[line.kind],
        "ChargeClass": "Correction" if line.service_month is not None else "",
        "ChargeDescription": _description(line),
        "ChargeFrequency": "Usage-Based" if is_usage else "Recurring",
        "ChargePeriodEnd": moment_text(end_us),
        "ChargePeriodStart": moment_text(start_us),
        "ConsumedQuantity": seconds,
        "ConsumedUnit": unit,
        "ContractedCost": cost,
        "EffectiveCost": cost,
        "InvoiceId": accounts.invoices.get(line.tenant, ""),
        "InvoiceIssuerName": accounts.issuer,
        "ListCost": cost,
        "PricingQuantity": seconds,
        "PricingUnit": unit,
        "ProviderName": accounts.issuer,
        "PublisherName": accounts.issuer,
        "ServiceCategory": SERVICE_CATEGORY,
        "ServiceName": SERVICE_NAME,
        "ServiceSubcategory": SERVICE_SUBCATEGORY,
        **_own_columns(line, statement),
    }


def _own_columns(line: Line, statement: Statement) -> dict[str, str]:
    return {
        "x_ApiKey": line.key or "",
        "x_BusyMicroseconds": str(line.busy_us),
        "x_DeviceClass": line.device_class or "",
        "x_Function": line.function or "",
        "x_HeldMicroseconds": str(line.held_us),
        "x_IsEstimate": "true" if statement.status == "open" else "false",
        "x_LineKind": line.kind,
        "x_RateCard": str(line.card),
        "x_RequestCount": str(line.requests),
        "x_RestoreMicroseconds": str(line.restore_us),
        "x_Revision": line.revision or "",
        "x_Run": line.run or "",
        "x_Step": line.step or "",
        "x_Tenant": line.tenant,
        "x_Workflow": line.workflow or "",
    }


def _decimal(number: int, exponent: int) -> str:
    """A number that no reader takes for a whole one, whatever its currency."""
    return minor_text(number, exponent) if exponent else f"{number}.0"


def _description(line: Line) -> str:
    if line.function is None:
        return ", ".join(text for text in (line.kind, line.note, line.device_class) if text)
    return f"{line.function} on {line.device_class}"


def _period(line: Line, statement: Statement) -> tuple[int, int]:
    """The time that a charge is for: a correction's lies in a month before the statement's."""
    whole = (statement.start_us, statement.end_us)
    if line.service_month is not None:
        month = Month.parse(line.service_month)
        whole = (month.start_us, month.end_us)
    if line.day is None:
        return whole
    start_us = next(
        start_us
        for start_us in range(whole[0] - whole[0] % DAY_US, whole[1], DAY_US)
        if day_text(start_us // DAY_US) == line.day
    )
    return max(start_us, whole[0]), min(start_us + DAY_US, whole[1])
