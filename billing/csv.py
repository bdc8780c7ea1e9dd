"""A statement as CSV, one row for each line (RFC 4180)."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, fields

from dsfn.billing.lines import Line
from dsfn.billing.money import minor_text
from dsfn.billing.statement import Statement

COLUMNS = ("month", *(field.name for field in fields(Line)), "amount", "currency")


def to_csv(statement: Statement) -> str:
    """The lines with the month, and the amount as a decimal number of the currency.

    The columns are always the same; `revision` and `day` are empty unless the
    statement is by them.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for line in statement.lines:
        amount = minor_text(line.amount_minor, statement.exponent)
        writer.writerow(
            {
                "month": statement.month,
                **asdict(line),
                "amount": amount,
                "currency": statement.currency,
            }
        )
    return text.getvalue()
