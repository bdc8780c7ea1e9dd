"""`dsfn cost advise` and `dsfn runs cost`: what was expensive, and what would have been less so."""

from __future__ import annotations

from typing import Annotated

import typer

from dsfn.billing.money import percent
from dsfn.functions.errors import UsageError
from dsfn.runtime.cli.cost_documents import (
    AdviceDocument,
    PieceOfAdviceDocument,
    RunCostDocument,
    StepCostDocument,
)
from dsfn.runtime.cli.options import JsonOption, connect_costs, deployed_names
from dsfn.runtime.cli.output import Column, print_json, print_table, say
from dsfn.runtime.workflows.amounts import duration, money


def advise(
    month: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="Last month without it (UTC).")
    ] = None,
    words: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Such as 'last 7 days'.")
    ] = None,
    function: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only of this one.", autocompletion=deployed_names),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Show what other options of your functions would have saved."""
    if month is not None and words is not None:
        raise UsageError("Choose one of --month and --for.")
    given = {"month": month, "for": words, "function": function}
    with connect_costs() as client:
        found = client.advice({name: value for name, value in given.items() if value is not None})
    if json_output:
        print_json(found)
    else:
        _print_advice(found)


def print_run_cost(found: RunCostDocument) -> None:
    """What a run cost, step by step."""
    print_table(
        (
            Column("step"),
            Column("attempt", right=True),
            Column("status"),
            Column("calls", right=True),
            Column("busy", right=True),
            Column("held", right=True),
            Column("restore", right=True),
            Column(found["currency"], right=True),
        ),
        [row for step in found["steps"] for row in _step_rows(step)],
        empty="This workflow calls no function.",
    )
    for step in found["steps"]:
        if step["note"]:
            say(f"{step['id']}: {step['note']}, which cost nothing here.")
    total = f"{money(found['amount_nano'])} {found['currency']}"
    say(f"Total of {found['requests']} calls, retries included: {total}")


def _step_rows(step: StepCostDocument) -> list[tuple[str, ...]]:
    if not step["attempts"]:
        return [(step["id"], "", "", "0", "", "", "", "0")]
    return [
        (
            step["id"],
            str(each["attempt"]),
            each["status"],
            str(each["requests"]),
            duration(each["busy_us"]),
            duration(each["held_us"]),
            duration(each["restore_us"]),
            money(each["amount_nano"]),
        )
        for each in step["attempts"]
    ]


def _print_advice(found: AdviceDocument) -> None:
    time, currency = f"{found['start']} to {found['end']}", found["currency"]
    if not found["functions"]:
        say(f"Nothing to advise: no function that is deployed was used from {time}.")
        return
    if not found["advice"]:
        say(f"Nothing to advise: from {time} no other options would have been worth it.")
        return
    print_table(
        (
            Column("function"),
            Column("change"),
            Column(f"saves {currency}", right=True),
            Column("of cost", right=True),
            Column("cold calls", right=True),
            Column("p50", right=True),
            Column("p99", right=True),
            Column("calls", right=True),
            Column("confidence"),
        ),
        [_advice_row(each) for each in found["advice"]],
        empty="",
    )
    say()
    for each in found["advice"]:
        say(f"{each['function']}, {each['change']}: {each['assumption']}")
    saving, cost = money(found["saving_nano"]), money(found["cost_nano"])
    say(f"From {time} the best of these for each function save {saving} of {cost} {currency}.")


def _advice_row(each: PieceOfAdviceDocument) -> tuple[str, ...]:
    before, after = each["before"], each["after"]
    return (
        each["function"],
        each["change"],
        money(each["saving_nano"]),
        percent(each["saving_basis_points"]),
        f"{before['cold_calls']} -> {after['cold_calls']}",
        f"{_time(before['p50_us'])} -> {_time(after['p50_us'])}",
        f"{_time(before['p99_us'])} -> {_time(after['p99_us'])}",
        str(each["calls"]),
        each["confidence"],
    )


def _time(time_us: int | None) -> str:
    return "?" if time_us is None else duration(time_us)
