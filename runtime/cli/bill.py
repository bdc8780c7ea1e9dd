"""`dsfn bill report`."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from dsfn.billing.money import minor_text
from dsfn.functions.errors import UsageError
from dsfn.runtime.cli.documents import BillLineDocument, StatementDocument
from dsfn.runtime.cli.options import JsonOption, connect
from dsfn.runtime.cli.output import Column, print_json, print_table, say

_NANO_EXPONENT = 9


class Grouping(StrEnum):
    """What one line of a bill stands for."""

    FUNCTION = "function"
    REVISION = "revision"
    DAY = "day"


def report(
    month: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="This month without it (UTC).")
    ] = None,
    by: Annotated[Grouping, typer.Option(help="What one line stands for.")] = Grouping.FUNCTION,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Show a month's bill."""
    if csv and json_output:
        raise UsageError("Choose one of --csv and --json.")
    with connect() as client:
        if csv:
            sys.stdout.write(client.bill_csv(month, by.value))
            return
        statement = client.bill(month, by.value)
    if json_output:
        print_json(statement)
    else:
        _print_statement(statement, by)


def _print_statement(statement: StatementDocument, by: Grouping) -> None:
    currency = statement["currency"]
    print_table(
        (
            Column(by.value),
            Column("device"),
            Column("card", right=True),
            Column("requests", right=True),
            Column("billed time", right=True),
            Column(f"exact {currency}", right=True),
            Column(f"amount {currency}", right=True),
        ),
        [_row(line, by, statement["exponent"]) for line in statement["lines"]],
        empty=f"Nothing was used in {statement['month']}.",
    )
    total = minor_text(statement["total_minor"], statement["exponent"])
    say(f"Total of {statement['month']} ({statement['status']}): {total} {currency}")


def _row(line: BillLineDocument, by: Grouping, exponent: int) -> tuple[str, ...]:
    key = {
        Grouping.FUNCTION: line["function"],
        Grouping.REVISION: line.get("revision"),
        Grouping.DAY: f"{line.get('day')} {line['function']}",
    }
    adjusts = line["kind"] != "usage"
    return (
        f"{line['kind']}: {line['note']}" if adjusts else key[by] or "",
        line["device_class"] or "",
        str(line["card"]),
        str(line["requests"]),
        f"{line['quantity_us'] / 1e6:.6f} s",
        minor_text(line["amount_nano"], _NANO_EXPONENT),
        minor_text(line["amount_minor"], exponent),
    )
