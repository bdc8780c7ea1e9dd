"""`dsfn deploy`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from dsfn.functions.errors import DsfnError
from dsfn.runtime.cli.canary import canary_parameters, canary_terms
from dsfn.runtime.cli.documents import DeployedDocument, StageDocument
from dsfn.runtime.cli.options import JsonOption, connect, given_path
from dsfn.runtime.cli.output import Column, print_json, print_table, size
from dsfn.runtime.cli.progress import progress
from dsfn.runtime.precision import Precision
from dsfn.runtime.problem_reading import problem_error


def deploy(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            parser=given_path,
            help="A Python file, a directory with app.py, or a workflow in YAML.",
            show_default=False,
        ),
    ],
    canary: Annotated[
        int | None,
        typer.Option(
            metavar="PERCENT", help="Try new revisions on so many of the calls.", show_default=False
        ),
    ] = None,
    promote_after: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Of a canary: all calls then; 10m without it."),
    ] = None,
    max_error_rate: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT%", help="Of a canary: taken back when more calls fail; 1% without it."
        ),
    ] = None,
    max_p99: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Of a canary: taken back when more than one call in a hundred takes longer.",
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Deploy the functions and workflows of a file or directory."""
    from dsfn.runtime.deploy.bundle import pack
    from dsfn.runtime.deploy.sources import declared_by

    terms = canary_parameters(canary_terms(canary, promote_after, max_error_rate, max_p99))
    bundle = pack(path)
    requirements = declared_by(path / bundle.entry if path.is_dir() else path)
    if requirements:
        # It may take minutes, in which whoever was reached goes away: what follows connects anew.
        with connect() as client:
            client.prepare(requirements)
    with connect() as client:
        stages = client.deploy(bundle.data, bundle.entry, terms)
        deployed = _last(stages, lambda _: None) if json_output else _shown(stages)
    if json_output:
        print_json(deployed)
    else:
        print_table(
            (
                Column("name"),
                Column("kind"),
                Column("revision"),
                Column("snapshot"),
                Column("url"),
            ),
            [(d["name"], d["kind"], _revision(d), _snapshot(d), d["url"] or "") for d in deployed],
            empty="The file holds no function.",
        )


def _last(
    stages: Iterable[StageDocument], show: Callable[[StageDocument], None]
) -> list[DeployedDocument]:
    """Shows each stage and gives what the last one says. Raises the deployment's error."""
    for stage in stages:
        if stage["stage"] == "failed":
            raise problem_error(stage["problem"])
        if stage["stage"] == "done":
            return stage["result"]
        show(stage)
    raise DsfnError("The node broke off the deployment; its log says why.")


def _shown(stages: Iterable[StageDocument]) -> list[DeployedDocument]:
    """The same, with the stages on standard error: a warning stays there."""
    with progress("Sending") as shown:

        def show(stage: StageDocument) -> None:
            tell = shown.keep if stage.get("warning", False) else shown.show
            tell(_words(stage))

        return _last(stages, show)


def _words(stage: StageDocument) -> str:
    function = stage.get("function")
    message = stage.get("message", "")
    return f"{stage['stage']}: {f'{function}: ' if function else ''}{message}"


def _revision(deployed: DeployedDocument) -> str:
    return deployed["revision"] + ("" if deployed["created"] else " (unchanged)")


def _snapshot(deployed: DeployedDocument) -> str:
    if deployed["kind"] == "workflow":
        return ""
    snapshot = deployed["snapshot"]
    if snapshot is not None and snapshot["precision"] is not None:
        precision = Precision.from_document(snapshot["precision"])
        return f"{size(snapshot['bytes'])} in {precision.kind}: {precision.loss()}"
    if snapshot is not None:
        return size(snapshot["bytes"])
    return f"none: {deployed['snapshot_reason']}"
