"""`dsfn workflow`: what is deployed, how it looks, and runs of it."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dsfn.functions.errors import UsageError
from dsfn.runtime.cli.options import (
    ContentTypeOption,
    EventIdOption,
    EventOption,
    EventSourceOption,
    EventTypeOption,
    FileOption,
    JsonOption,
    OutputOption,
    WorkflowArgument,
    connect_workflows,
)
from dsfn.runtime.cli.output import (
    Column,
    complain,
    local_time,
    print_fields,
    print_json,
    print_table,
    say,
    size,
)
from dsfn.runtime.cli.reply import Reply
from dsfn.runtime.cli.request import CallRequest, event_options, request_from
from dsfn.runtime.cli.result import collect_result, print_result, write_result
from dsfn.runtime.cli.run_view import (
    Change,
    change_line,
    dag_of,
    follow_live,
    follow_plainly,
    print_lines,
    workflow_lines,
)
from dsfn.runtime.cli.subscriptions import describe_filters
from dsfn.runtime.cli.workflow_client import WorkflowClient
from dsfn.runtime.cli.workflow_documents import WorkflowDocument
from dsfn.runtime.problem_reading import problem_error


class Format(StrEnum):
    """What a picture is made of."""

    TEXT = "text"
    MERMAID = "mermaid"
    SVG = "svg"


FormatOption = Annotated[Format, typer.Option("--format", help="What the picture is made of.")]


def list_workflows(json_output: JsonOption = False) -> None:
    """List the deployed workflows."""
    with connect_workflows() as client:
        found = client.workflows()
    if json_output:
        print_json(found)
        return
    print_table(
        (Column("name"), Column("steps", right=True), Column("schedule"), Column("revision")),
        [(w["name"], str(w["steps"]), w["schedule"] or "", w["revision"]) for w in found],
        empty="No workflow is deployed. Deploy one with `dsfn deploy PATH`.",
    )


def show(
    name: WorkflowArgument, format_: FormatOption = Format.TEXT, json_output: JsonOption = False
) -> None:
    """Draw one workflow."""
    if json_output and format_ is not Format.TEXT:
        raise UsageError("Choose one of --format and --json.")
    with connect_workflows() as client:
        if format_ is not Format.TEXT:
            say(client.workflow_picture(name, format_.value), end="")
            return
        document = client.workflow(name)
    if json_output:
        print_json(document)
        return
    print_fields(_description(document))
    say()
    print_lines(workflow_lines(dag_of(document["dag"])))


def run(
    name: WorkflowArgument,
    data: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE", help="The inputs as JSON, or a file with them."),
    ] = None,
    file: FileOption = None,
    content_type: ContentTypeOption = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TEXT|NAME=@FILE",
            help="One input, or one more item of an input that is a list.",
        ),
    ] = None,
    event: EventOption = False,
    event_type: EventTypeOption = None,
    source: EventSourceOption = None,
    event_id: EventIdOption = None,
    later: Annotated[
        bool, typer.Option("--async", help="Start the run, print its id and return.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show how the run goes while it does.")
    ] = False,
    output: OutputOption = None,
    json_output: JsonOption = False,
) -> None:
    """Run a workflow and print its result."""
    attributes = event_options(event, event_type, source, event_id)
    if later and (follow or output is not None):
        raise UsageError("--async does not wait for what --follow and --output need.")
    request = request_from(data, file, content_type, attributes, tuple(part or ()))
    with connect_workflows() as client:
        if later:
            started = client.start_run(name, request.body, request.headers)
            if json_output:
                print_json(started)
            else:
                say(started["id"])
        elif follow:
            _follow(client, name, request, output, json_output)
        else:
            _wait(client, name, request, output, json_output)


def history(name: WorkflowArgument, json_output: JsonOption = False) -> None:
    """List a workflow's revisions, newest first."""
    with connect_workflows() as client:
        revisions = client.workflow_history(name)
    if json_output:
        print_json(revisions)
        return
    print_table(
        (Column("revision"), Column("created"), Column("steps", right=True), Column("serving")),
        [
            (
                r["revision"],
                local_time(r["created_at"]),
                str(r["steps"]),
                "yes" if r["serving"] else "",
            )
            for r in revisions
        ],
        empty=f"{name} has no revisions.",
    )


def delete(name: WorkflowArgument, json_output: JsonOption = False) -> None:
    """Remove a workflow; its runs go on and are kept."""
    with connect_workflows() as client:
        client.delete_workflow(name)
    if json_output:
        print_json({"name": name, "deleted": True})
    else:
        say(f"{name} is deleted.")


def _wait(
    client: WorkflowClient,
    name: str,
    request: CallRequest,
    output: Path | None,
    json_output: bool,
) -> None:
    """Waits for the result: it is all that comes."""
    with client.run(name, request.body, request.headers) as reply:
        if output is not None:
            _save(reply, output)
        elif json_output:
            collect_result(reply)
        else:
            print_result(reply, lambda: False)
        run_id = reply.headers["dsfn-run-id"]
    if json_output:
        print_json(client.run_document(run_id))


def _follow(
    client: WorkflowClient,
    name: str,
    request: CallRequest,
    output: Path | None,
    json_output: bool,
) -> None:
    """Shows on standard error how the run goes, then its result."""
    run_id = client.start_run(name, request.body, request.headers)["id"]
    if sys.stderr.isatty():
        document = follow_live(client, dag_of(client.run_dag(run_id)), run_id, sys.stderr)
    else:
        document = follow_plainly(client, run_id, _tell)
    if document["error"] is not None:
        raise problem_error(document["error"])
    with client.run_output(run_id) as reply:
        if output is not None:
            _save(reply, output)
        elif not json_output:
            print_result(reply, lambda: False)
    if json_output:
        print_json(document)


def _save(reply: Reply, output: Path) -> None:
    complain(f"{size(write_result(reply, output))} of {reply.media_type} are in {output}.")


def _tell(change: Change) -> None:
    complain(change_line(change))


def _description(workflow: WorkflowDocument) -> list[tuple[str, str]]:
    rows = [
        ("name", workflow["name"]),
        ("revision", workflow["revision"]),
        ("description", workflow["description"]),
        ("url", workflow["url"]),
        ("deployed", local_time(workflow["created_at"])),
        ("schedule", workflow["schedule"] or ""),
        ("tags", ", ".join(workflow["tags"])),
        ("functions", ", ".join(workflow["functions"])),
    ]
    rows += [
        ("subscription", f"{s['id']} {describe_filters(s)}") for s in workflow["subscriptions"]
    ]
    return [(name, value) for name, value in rows if value]
