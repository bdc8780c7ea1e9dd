"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsfn.functions.errors import UsageError
from dsfn.runtime.cli.client import Client
from dsfn.runtime.cli.place import node_url
from dsfn.runtime.cli.workflow_client import WorkflowClient


def connect() -> Client:
    """A client of the chosen node."""
    return Client(node_url())


def connect_workflows() -> WorkflowClient:
    """The same for workflows and runs."""
    return WorkflowClient(node_url())


def deployed_names(incomplete: str) -> list[str]:
    """Completes a function's name; the shell shows nothing when no node answers."""
    from dsfn.functions.errors import DsfnError

    try:
        with connect() as client:
            names = [f["name"] for f in client.functions()]
    except DsfnError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def workflow_names(incomplete: str) -> list[str]:
    """Completes a workflow's name as `deployed_names` does a function's."""
    from dsfn.functions.errors import DsfnError

    try:
        with connect_workflows() as client:
            names = [w["name"] for w in client.workflows()]
    except DsfnError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def given_path(text: str) -> Path:
    """A path from the command line. The empty one would mean the working directory."""
    if not text:
        raise UsageError("A path on the command line is empty.")
    return Path(text)


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The function's name.",
        autocompletion=deployed_names,
        show_default=False,
    ),
]
WorkflowArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The workflow's name.",
        autocompletion=workflow_names,
        show_default=False,
    ),
]
