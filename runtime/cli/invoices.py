"""`dsfn bill close`, `list`, `show`, `verify`, `credit` and `correct`."""

from __future__ import annotations

import json
import re
import uuid
from typing import Annotated, cast

import typer

from dsfn.billing.money import minor_text
from dsfn.functions.errors import UsageError
from dsfn.runtime.cli.bill import (
    Grouping,
    HtmlOption,
    PdfOption,
    chosen_format,
    print_lines,
)
from dsfn.runtime.cli.bill_client import BillClient
from dsfn.runtime.cli.bill_documents import InvoiceDocument, InvoiceRowDocument, PartyDocument
from dsfn.runtime.cli.options import JsonOption, TenantOption, connect_bills
from dsfn.runtime.cli.output import (
    Column,
    local_time,
    print_bytes,
    print_fields,
    print_json,
    print_table,
    say,
)

_MONTH = re.compile("[0-9]{4}-[0-9]{2}")

MonthArgument = Annotated[str, typer.Argument(metavar="MONTH", show_default=False)]
NumberArgument = Annotated[
    str, typer.Argument(metavar="NUMBER", help="The document's number.", show_default=False)
]


def close(month: MonthArgument, json_output: JsonOption = False) -> None:
    """Close a month that is over: it never changes again, and every tenant gets an invoice."""
    with connect_bills() as client:
        closed = client.close_month(month)
    if json_output:
        print_json(closed)
        return
    _print_rows(closed["invoices"], f"Nothing was billed in {month}.")
    total = minor_text(closed["total_minor"], closed["exponent"])
    say(f"{month} is closed. Total: {total} {closed['currency']}")


def list_invoices(
    month: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="Those of this month alone.")
    ] = None,
    tenant: TenantOption = None,
    json_output: JsonOption = False,
) -> None:
    """List invoices and credit notes."""
    with connect_bills() as client:
        rows = client.invoices(month or "", tenant or "")
    if json_output:
        print_json({"invoices": rows})
    else:
        _print_rows(rows, "There are no invoices.")


def show(
    name: Annotated[
        str, typer.Argument(metavar="NUMBER|MONTH", help="One document, or all of a closed month.")
    ],
    tenant: TenantOption = None,
    html: HtmlOption = False,
    pdf: PdfOption = False,
    json_output: JsonOption = False,
) -> None:
    """Show an invoice or a credit note; with --json the very bytes that were signed."""
    format = chosen_format(html=html, pdf=pdf, json=json_output)
    with connect_bills() as client:
        if not _MONTH.fullmatch(name):
            _show_one(client, name, format)
            return
        numbers = [row["number"] for row in client.invoices(name, tenant or "")]
        if format in ("html", "pdf"):
            _show_one(client, _only(numbers, name), format)
            return
        contents = [client.invoice(number).decode() for number in numbers]
    if json_output:
        say(f'{{"month":"{name}","invoices":[{",".join(contents)}]}}')
    elif not contents:
        say(f"There are no invoices of {name}.")
    for content in [] if json_output else contents:
        _print(content.encode(), json_output)


def verify(number: NumberArgument, json_output: JsonOption = False) -> None:
    """Check a document: its digest, its signature, and that it follows from the journal."""
    with connect_bills() as client:
        check = client.verify_invoice(number)
    if json_output:
        print_json(check)
    else:
        for problem in check["problems"]:
            say(problem)
        if check["ok"]:
            say(f"{number} is what was issued and follows from the journal.")
            say(f"SHA-256: {check['sha256']}")
            say(f"Key: {check['public_key']}")
    if not check["ok"]:
        raise typer.Exit(1)


def credit(
    number: NumberArgument,
    amount: Annotated[
        str, typer.Option(metavar="AMOUNT", help="Tax included, such as 12.34.", show_default=False)
    ],
    reason: Annotated[str, typer.Option(help="What the note says.", show_default=False)],
    key: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="The same key again issues nothing new."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Issue a credit note on an invoice."""
    with connect_bills() as client:
        _print(client.credit(number, amount, reason, key or uuid.uuid4().hex), json_output)


def correct(
    invocation: Annotated[
        str, typer.Argument(metavar="INVOCATION", help="The call's id.", show_default=False)
    ],
    reason: Annotated[str, typer.Option(help="What the row says.", show_default=False)],
    status: Annotated[
        str | None,
        typer.Option(metavar="STATUS", help="'platform' takes it off the bill."),
    ] = None,
    busy_us: Annotated[int | None, typer.Option(metavar="MICROSECONDS", min=0)] = None,
    restore_us: Annotated[int | None, typer.Option(metavar="MICROSECONDS", min=0)] = None,
    json_output: JsonOption = False,
) -> None:
    """Correct what was metered of a call: its row is taken back, another stands in its place."""
    given = {"reason": reason, "status": status, "busy_us": busy_us, "restore_us": restore_us}
    with connect_bills() as client:
        row = client.correct(invocation, {n: v for n, v in given.items() if v is not None})
    if json_output:
        print_json(row)
    else:
        say(f"{row['invocation_id']} stands in for {invocation}: {row['error']}")


def _show_one(client: BillClient, number: str, format: str) -> None:
    if format in ("html", "pdf"):
        print_bytes(client.invoice(number, format))
    else:
        _print(client.invoice(number), format == "json")


def _only(numbers: list[str], month: str) -> str:
    """The one document of a month: a file has one."""
    match numbers:
        case []:
            raise UsageError(f"There are no invoices of {month}.")
        case [number]:
            return number
        case _:
            raise UsageError(f"{month} has {len(numbers)} documents: name one, or a --tenant.")


def _print(content: bytes, json_output: bool) -> None:
    """A document: its very bytes, or for a person."""
    if json_output:
        say(content.decode())
    else:
        _print_document(cast(InvoiceDocument, json.loads(content)))


def _print_rows(rows: list[InvoiceRowDocument], empty: str) -> None:
    print_table(
        (
            Column("number"),
            Column("kind"),
            Column("month"),
            Column("tenant"),
            Column("issued"),
            Column("amount", right=True),
            Column("currency"),
            Column("on"),
        ),
        [
            (
                row["number"],
                row["kind"],
                row["month"],
                row["tenant"],
                local_time(row["issued_at"]),
                minor_text(row["total_minor"], row["exponent"]),
                row["currency"],
                row["reverses"] or "",
            )
            for row in rows
        ],
        empty=empty,
    )


def _print_document(document: InvoiceDocument) -> None:
    currency, exponent = document["currency"], document["exponent"]
    fields = [
        (document["kind"], document["number"]),
        ("month", document["month"]),
        ("issued", document["issued_on"]),
        ("due", document["due_on"]),
        ("from", _party(document["issuer"])),
        ("to", _party(document["customer"])),
        ("tenant", document["tenant"]),
        ("on", document["reverses"]),
        ("reason", document["reason"]),
    ]
    print_fields((name, value) for name, value in fields if value)
    print_lines(document["lines"], currency, exponent, Grouping.FUNCTION, "It has no lines.")
    for name in ("net", "tax", "total"):
        amount = cast(dict[str, int], document)[f"{name}_minor"]
        say(f"{name}: {minor_text(amount, exponent)} {currency}")


def _party(party: PartyDocument) -> str:
    return ", ".join([party["name"], *party["address"]])
