"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from dsfn.functions.errors import DsfnError, UsageError
from dsfn.runtime.cli.bill_client import BillClient
from dsfn.runtime.cli.client import Client
from dsfn.runtime.cli.contexts import LOCAL, load_contexts
from dsfn.runtime.cli.cost_client import CostClient
from dsfn.runtime.cli.place import chosen_target
from dsfn.runtime.cli.plan_client import PlanClient
from dsfn.runtime.cli.workflow_client import WorkflowClient

T = TypeVar("T")


def connect() -> Client:
    """A client of the chosen node or cluster."""
    return _connected(Client)


def connect_bills() -> BillClient:
    """The same for bills and invoices."""
    return _connected(BillClient)


def connect_workflows() -> WorkflowClient:
    """The same for workflows and runs."""
    return _connected(WorkflowClient)


def connect_costs() -> CostClient:
    """The same for costs."""
    return _connected(CostClient)


def connect_plans() -> PlanClient:
    """The same for plans."""
    return _connected(PlanClient)


def _connected(client: Callable[[str, str | None], T]) -> T:
    target = chosen_target()
    return client(target.url, target.key)


def context_names(incomplete: str) -> list[str]:
    """Completes the name of a context."""
    with suppress(DsfnError):
        return [name for name in (LOCAL, *load_contexts().named) if name.startswith(incomplete)]
    return []


def deployed_names(incomplete: str) -> list[str]:
    """Completes a function's name; the shell shows nothing when no node answers."""
    with suppress(DsfnError), connect() as client:
        return [f["name"] for f in client.functions() if f["name"].startswith(incomplete)]
    return []


def workflow_names(incomplete: str) -> list[str]:
    """Completes a workflow's name as `deployed_names` does a function's."""
    with suppress(DsfnError), connect_workflows() as client:
        return [w["name"] for w in client.workflows() if w["name"].startswith(incomplete)]
    return []


def given_path(text: str) -> Path:
    """A path from the command line. The empty one would mean the working directory."""
    if not text:
        raise UsageError("A path on the command line is empty.")
    return Path(text)


def _tenant(name: str | None) -> str | None:
    if name == "":
        raise UsageError("A tenant on the command line is empty.")
    return name


TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="NAME",
        help="The context to talk to; `dsfn context list` shows them.",
        autocompletion=context_names,
    ),
]
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
TenantOption = Annotated[
    str | None,
    typer.Option(metavar="TENANT", help="Of this tenant alone.", callback=_tenant),
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
FileOption = Annotated[
    Path | None,
    typer.Option(metavar="PATH", parser=given_path, help="A file to send as it is."),
]
ContentTypeOption = Annotated[
    str | None, typer.Option(metavar="TYPE", help="Guessed from the file's name without it.")
]
EventOption = Annotated[
    bool, typer.Option("--event", help="Send a CloudEvent and print the one that answers.")
]
EventTypeOption = Annotated[str | None, typer.Option("--type", help="The event's type.")]
EventSourceOption = Annotated[str | None, typer.Option(help="The event's source.")]
EventIdOption = Annotated[str | None, typer.Option("--id", help="The event's id.")]
OutputOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", parser=given_path, help="Write the result there."),
]
