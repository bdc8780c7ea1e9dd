"""`dsfn bill report`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from dsfn.billing.money import minor_text
from dsfn.functions.errors import UsageError
from dsfn.runtime.cli.bill_documents import BillLineDocument, StatementDocument
from dsfn.runtime.cli.options import JsonOption, TenantOption, connect_bills
from dsfn.runtime.cli.output import (
    Column,
    complain,
    on_terminal,
    print_bytes,
    print_json,
    print_table,
    say,
)

_NANO_EXPONENT = 9


class Grouping(StrEnum):
    """What one line of a bill stands for."""

    FUNCTION = "function"
    REVISION = "revision"
    WORKFLOW = "workflow"
    RUN = "run"
    STEP = "step"
    DAY = "day"
    KEY = "key"


# These do not tell of which function a line is: it has a column of its own.
_BESIDE_FUNCTION = frozenset(Grouping) - {Grouping.FUNCTION, Grouping.REVISION}
HtmlOption = Annotated[bool, typer.Option("--html", help="Print it as a page.")]
PdfOption = Annotated[bool, typer.Option("--pdf", help="Print it as a PDF, into a file.")]


def chosen_format(**chosen: bool) -> str:
    """The one format that is chosen, "" for none. Raises `UsageError`."""
    names = [name for name, is_chosen in chosen.items() if is_chosen]
    if len(names) > 1:
        raise UsageError(f"Choose one of {' and '.join(f'--{name}' for name in names)}.")
    if names == ["pdf"] and on_terminal():
        raise UsageError("A terminal shows no PDF: add `> bill.pdf`.")
    return names[0] if names else ""


def report(
    month: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="This month without it (UTC).")
    ] = None,
    words: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="Such as 'last month', 'today', 'last 7 days'."),
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="A date, or a moment with its offset.")
    ] = None,
    end: Annotated[
        str | None, typer.Option(metavar="TIME", help="The first that does not belong to it.")
    ] = None,
    tenant: TenantOption = None,
    by: Annotated[Grouping, typer.Option(help="What one line stands for.")] = Grouping.FUNCTION,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    focus: Annotated[
        bool, typer.Option("--focus", help="Print it as FOCUS has costs (CSV).")
    ] = False,
    html: HtmlOption = False,
    pdf: PdfOption = False,
    json_output: JsonOption = False,
) -> None:
    """Show what was used and what it costs."""
    format = chosen_format(csv=csv, focus=focus, html=html, pdf=pdf, json=json_output)
    given = {"month": month, "for": words, "start": start, "end": end, "tenant": tenant}
    query = {name: value for name, value in given.items() if value is not None}
    query["by"] = by.value
    with connect_bills() as client:
        if format not in ("", "json"):
            print_bytes(client.bill_as(query, format))
            return
        statement = client.bill(query)
    if json_output:
        print_json(statement)
    else:
        _print_statement(statement, by)


def print_lines(
    lines: list[BillLineDocument], currency: str, exponent: int, by: Grouping, empty: str
) -> None:
    """The lines of a bill or an invoice as a table."""
    print_table(
        (
            Column(by.value),
            *((Column("function"),) if by in _BESIDE_FUNCTION else ()),
            Column("device"),
            Column("card", right=True),
            Column("requests", right=True),
            Column("billed time", right=True),
            Column(f"exact {currency}", right=True),
            Column(f"amount {currency}", right=True),
        ),
        [_row(line, by, exponent) for line in lines],
        empty=empty,
    )


def _print_statement(statement: StatementDocument, by: Grouping) -> None:
    currency, exponent = statement["currency"], statement["exponent"]
    time = statement["month"] or f"{statement['start']} to {statement['end']}"
    tenants = {line["tenant"] for line in statement["lines"]}
    empty = f"Nothing was used in {time}."
    for tenant in sorted(tenants) if len(tenants) > 1 else [None]:
        lines = [line for line in statement["lines"] if tenant in (None, line["tenant"])]
        if tenant is not None:
            say(f"{tenant}:")
        print_lines(lines, currency, exponent, by, empty)
    total = minor_text(statement["total_minor"], exponent)
    if statement["month"] is None:
        say(f"Total of {time}, at list price: {total} {currency}")
        return
    say(f"Total of {time} ({statement['status']}): {total} {currency}")
    expected_minor = statement["expected_minor"]
    if expected_minor is not None and expected_minor != statement["total_minor"]:
        expected = minor_text(expected_minor, exponent)
        complain(f"The month is not over; if it goes on like this: {expected} {currency}.")


def _row(line: BillLineDocument, by: Grouping, exponent: int) -> tuple[str, ...]:
    return (
        _name(line, by),
        *((line["function"] or "",) if by in _BESIDE_FUNCTION else ()),
        line["device_class"] or "",
        str(line["card"]),
        str(line["requests"]),
        f"{line['quantity_us'] / 1e6:.6f} s",
        minor_text(line["amount_nano"], _NANO_EXPONENT),
        minor_text(line["amount_minor"], exponent),
    )


def _name(line: BillLineDocument, by: Grouping) -> str:
    """What a line is about."""
    late = f" of {line['service_month']}" if line["service_month"] else ""
    if line["kind"] not in ("usage", "correction"):
        return f"{line['kind']}: {line['note']}{late}"
    names = {
        Grouping.FUNCTION: (line["function"],),
        Grouping.REVISION: (line.get("revision"),),
        Grouping.WORKFLOW: (line.get("workflow"),),
        Grouping.RUN: (line.get("workflow"), line.get("run")),
        Grouping.STEP: (line.get("workflow"), line.get("step")),
        Grouping.DAY: (line.get("day"),),
        Grouping.KEY: (line.get("key"),),
    }
    name = " ".join(each for each in names[by] if each) or "-"
    return f"correction: {name}{late}" if late else name
