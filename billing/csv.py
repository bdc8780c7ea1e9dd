"""A statement as CSV, one row for each line (RFC 4180)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields

from dsfn.billing.lines import Line
from dsfn.billing.money import minor_text
from dsfn.billing.statement import Statement

# What spreadsheets take for the beginning of a formula, which a tenant's name may be. Source:
# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NEGATIVE = re.compile(r"-[0-9]+(\.[0-9]+)?", re.ASCII)
COLUMNS = ("month", *(field.name for field in fields(Line)), "amount", "currency")


def to_csv(statement: Statement) -> str:
    """The lines with the month, and the amount as a decimal number of the currency.

    The columns are always the same; `revision` and `day` are empty unless the
    statement is by them.
    """
    return csv_text(COLUMNS, (_row(line, statement) for line in statement.lines))


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """A head and rows. A text that a spreadsheet would take for a formula has an apostrophe before
    it, which makes it a text there, too."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    return text.getvalue()


def _row(line: Line, statement: Statement) -> dict[str, object]:
    amount = minor_text(line.amount_minor, statement.exponent)
    own = {"month": statement.month, "amount": amount, "currency": statement.currency}
    return {**asdict(line), **own}


def _harmless(value: object) -> object:
    if not isinstance(value, str) or not value.startswith(_FORMULA) or _NEGATIVE.fullmatch(value):
        return value
    return f"'{value}"
