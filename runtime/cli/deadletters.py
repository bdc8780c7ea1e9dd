"""`dsfn deadletters`: events that nobody took and runs that failed, and their second chance."""

from __future__ import annotations

from typing import Annotated

import typer

from dsfn.functions.errors import DsfnError
from dsfn.runtime.cli.options import JsonOption, connect_workflows
from dsfn.runtime.cli.output import (
    Column,
    json_text,
    local_time,
    print_fields,
    print_json,
    print_table,
    say,
)
from dsfn.runtime.cli.runs import DEFAULT_LIMIT, MAX_LIMIT, LimitOption
from dsfn.runtime.cli.workflow_documents import DeadLetterDocument, DeadLetterShowDocument


def letter_ids(incomplete: str) -> list[str]:
    """Completes the id of one of the latest dead letters."""
    try:
        with connect_workflows() as client:
            ids = [each["id"] for each in client.dead_letters(MAX_LIMIT, None)["deadletters"]]
    except DsfnError:
        return []
    return [id for id in ids if id.startswith(incomplete)]


LetterArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="Of the event's delivery, or of the run.",
        autocompletion=letter_ids,
        show_default=False,
    ),
]


def list_letters(
    limit: LimitOption = DEFAULT_LIMIT,
    before: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Go on after an earlier list.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """List what was given up, those that came last first."""
    with connect_workflows() as client:
        document = client.dead_letters(limit, before)
    if json_output:
        print_json(document)
        return
    print_table(
        (Column("id"), Column("kind"), Column("name"), Column("given up"), Column("reason")),
        [_row(each) for each in document["deadletters"]],
        empty="Nothing was given up.",
    )
    if document["next"] is not None:
        say(f"There are more: add --before {document['next']}.")


def show(letter: LetterArgument, json_output: JsonOption = False) -> None:
    """Show why an event or a run was given up."""
    with connect_workflows() as client:
        document = client.dead_letter(letter)
    if json_output:
        print_json(document)
        return
    print_fields(_description(document))
    if document["event"] is not None:
        say()
        say(json_text(document["event"]))


def replay(letter: LetterArgument, json_output: JsonOption = False) -> None:
    """Deliver an event again, or go on with a run from the step that failed."""
    with connect_workflows() as client:
        document = client.replay(letter)
    if json_output:
        print_json(document)
    else:
        say(document["location"].rpartition("/")[2])


def _row(letter: DeadLetterDocument) -> tuple[str, ...]:
    return (
        letter["id"],
        letter["kind"],
        letter["name"],
        local_time(letter["died_at"]),
        str(letter["error"]["detail"]),
    )


def _description(letter: DeadLetterShowDocument) -> list[tuple[str, str]]:
    attempts = letter["attempts"]
    rows = [
        ("id", letter["id"]),
        ("kind", letter["kind"]),
        ("workflow" if letter["kind"] == "run" else "for", letter["name"]),
        ("revision", letter["revision"] or ""),
        ("came", local_time(letter["created_at"])),
        ("given up", local_time(letter["died_at"])),
        ("attempts", "" if attempts is None else str(attempts)),
        ("step", str(letter["error"].get("step", ""))),
        ("reason", str(letter["error"]["detail"])),
    ]
    return [(name, value) for name, value in rows if value]
