"""`dsfn runs`: what they are at, what came of them, and how to end one or try it again."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from dsfn.functions.errors import DsfnError, UsageError
from dsfn.runtime.cli.cost import print_run_cost
from dsfn.runtime.cli.options import JsonOption, connect_costs, connect_workflows, workflow_names
from dsfn.runtime.cli.output import (
    Column,
    item_words,
    local_time,
    on_terminal,
    print_json,
    print_table,
    say,
)
from dsfn.runtime.cli.run_view import (
    Change,
    change_line,
    cost_words,
    dag_of,
    follow_live,
    follow_plainly,
    print_run,
)
from dsfn.runtime.cli.workflow import Format, FormatOption
from dsfn.runtime.cli.workflow_documents import RunLogDocument, RunSummaryDocument

DEFAULT_LIMIT = 20
MAX_LIMIT = 1_000


class State(StrEnum):
    """The states of a run."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


def run_ids(incomplete: str) -> list[str]:
    """Completes the id of one of the latest runs."""
    try:
        with connect_workflows() as client:
            ids = [run["id"] for run in client.runs(None, None, MAX_LIMIT, None)["runs"]]
    except DsfnError:
        return []
    return [id for id in ids if id.startswith(incomplete)]


RunArgument = Annotated[
    str,
    typer.Argument(metavar="ID", help="The run's id.", autocompletion=run_ids, show_default=False),
]
LimitOption = Annotated[
    int, typer.Option(min=1, max=MAX_LIMIT, help="How many at most.", metavar="N")
]


def list_runs(
    workflow: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only of this one.", autocompletion=workflow_names),
    ] = None,
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    limit: LimitOption = DEFAULT_LIMIT,
    before: Annotated[
        str | None, typer.Option(metavar="ID", help="Go on after the last of an earlier list.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """List runs of workflows, those that started last first."""
    with connect_workflows() as client:
        document = client.runs(workflow, None if state is None else state.value, limit, before)
    if json_output:
        print_json(document)
        return
    print_table(
        (
            Column("id"),
            Column("workflow"),
            Column("state"),
            Column("started"),
            Column("cost", right=True),
        ),
        [_row(run) for run in document["runs"]],
        empty="There are no such runs.",
    )
    if document["next"] is not None:
        say(f"There are more: add --before {document['next']}.")


def show(
    run: RunArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")
    ] = False,
    format_: FormatOption = Format.TEXT,
    json_output: JsonOption = False,
) -> None:
    """Draw one run with the state, time and cost of each step."""
    if format_ is not Format.TEXT and (follow or json_output):
        raise UsageError("A picture of --format is of a moment: leave --follow and --json out.")
    with connect_workflows() as client:
        if format_ is not Format.TEXT:
            say(client.run_picture(run, format_.value), end="")
        elif json_output and follow:
            follow_plainly(client, run, _print_change)
        elif json_output:
            print_json(client.run_document(run))
        elif follow and not on_terminal():
            follow_plainly(client, run, lambda change: say(change_line(change), flush=True))
        else:
            dag = dag_of(client.run_dag(run))
            document = (
                follow_live(client, dag, run, sys.stdout) if follow else client.run_document(run)
            )
            print_run(dag, document)
            _print_cost(run)


def cost(run: RunArgument, json_output: JsonOption = False) -> None:
    """Show what a run cost, by step, retries included."""
    with connect_costs() as client:
        found = client.run_cost(run)
    if json_output:
        print_json(found)
    else:
        print_run_cost(found)


def cancel(run: RunArgument, json_output: JsonOption = False) -> None:
    """Call a run off, and stop what it runs."""
    with connect_workflows() as client:
        document = client.cancel_run(run)
    if json_output:
        print_json(document)
    elif document["state"] == "running":
        say(f"Run {run} ends once its calls have stopped.")
    else:
        say(f"Run {run} is {document['state']}.")


def retry(run: RunArgument, json_output: JsonOption = False) -> None:
    """Start a run that goes on where a failed or cancelled one ended."""
    with connect_workflows() as client:
        document = client.retry_run(run)
    if json_output:
        print_json(document)
    else:
        say(document["id"])


def logs(
    run: RunArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Show what the calls of a run printed."""
    with connect_workflows() as client:
        lines = client.run_logs(run, follow)
        if json_output and not follow:
            print_json(list(lines))
            return
        for line in lines:
            text = json.dumps(line, ensure_ascii=False) if json_output else _line(line)
            say(text, flush=follow)


def _print_cost(run: str) -> None:
    """Below the picture of a run: what its calls cost, once there were some."""
    with connect_costs() as client:
        found = client.run_cost(run)
    if found["requests"]:
        say()
        print_run_cost(found)


def _print_change(change: Change) -> None:
    """A document for each change: a stream has no end to close a list with."""
    document = {"run": change.run} if change.step is None else {"step": change.step}
    say(json.dumps(document, ensure_ascii=False), flush=True)


def _row(run: RunSummaryDocument) -> tuple[str, ...]:
    return (
        run["id"],
        run["workflow"],
        run["state"],
        local_time(run["started_at"]),
        cost_words(run["cost"]),
    )


def _line(line: RunLogDocument) -> str:
    head = f"{local_time(line['time'])} {line['step']}{item_words(line['item'])}"
    if on_terminal():
        head = typer.style(head, fg=typer.colors.CYAN)
    return f"{head} {line['text']}"
