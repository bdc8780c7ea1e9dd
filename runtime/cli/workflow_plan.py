"""`dsfn workflow plan`: which functions lead from what there is to what is wanted."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from dsfn.runtime.cli.options import JsonOption, connect_plans
from dsfn.runtime.cli.output import print_json, say
from dsfn.runtime.cli.run_view import dag_of, print_lines, workflow_lines


class Optimise(StrEnum):
    """What the best plan has least of."""

    LATENCY = "latency"
    COST = "cost"


def plan(
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            metavar="[NAME=]TYPE",
            help="A content type that goes in, with [] behind it for a list; as often as needed.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            metavar="TYPE", help="The content type that is to come out.", show_default=False
        ),
    ],
    want: Annotated[
        str, typer.Option(metavar="WORDS", help="What the functions should be about.")
    ] = "",
    optimise: Annotated[
        Optimise, typer.Option(help="What there should be little of.")
    ] = Optimise.LATENCY,
    save: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Save the plan as a workflow.", show_default=False),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Find the best way from inputs to an output over the deployed functions."""
    with connect_plans() as client:
        document = client.plan(inputs, output, want, optimise.value, save)
    if json_output:
        print_json(document)
        return
    for sentence in document["explanation"]:
        say(sentence)
    say()
    print_lines(workflow_lines(dag_of(document["dag"])))
    say()
    saved = document["saved"]
    if saved is None:
        say("It is not saved; --save NAME makes it a workflow.")
    else:
        say(f"Saved as {saved['name']}, revision {saved['revision']}.")
