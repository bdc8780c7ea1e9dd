"""`dsfn logs`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from dsfn.functions.durations import parse_seconds
from dsfn.functions.errors import DefinitionError, UsageError
from dsfn.runtime.cli.documents import LogDocument
from dsfn.runtime.cli.options import JsonOption, NameArgument, connect
from dsfn.runtime.cli.output import local_time, on_terminal, print_json, say


def logs(
    name: NameArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on printing what comes.")
    ] = False,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Only the last 90s, 5m, 1h, ...")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Show what a function printed."""
    since_s = _seconds(since)
    with connect() as client:
        lines = client.logs(name, since_s, follow)
        if json_output and not follow:
            print_json(list(lines))
            return
        for line in lines:
            # A stream has no end to close a list with: a document for each line.
            text = json.dumps(line, ensure_ascii=False) if json_output else _line(line)
            say(text, flush=follow)


def _line(line: LogDocument) -> str:
    head = f"{local_time(line['time'])} {line.get('pod', line['replica'])}"
    if on_terminal():
        head = typer.style(head, fg=typer.colors.CYAN)
    return f"{head} {line['text']}"


def _seconds(since: str | None) -> float | None:
    if since is None:
        return None
    try:
        return parse_seconds(since, "--since")
    except DefinitionError as error:
        raise UsageError(error.message) from error
