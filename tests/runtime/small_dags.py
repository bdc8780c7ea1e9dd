"""Workflows for tests of what the node does with them."""

from __future__ import annotations

from dsfn.functions.interface import FilterInterface
from dsfn.functions.workflow.dag import (
    Call,
    Constant,
    Dag,
    Input,
    Result,
    WorkflowInput,
    WorkflowOptions,
)

TEXT = WorkflowInput("text", "json", schema={"type": "string"})


def make_dag(
    name: str = "relay",
    function: str = "echo",
    inputs: tuple[WorkflowInput, ...] = (TEXT,),
    triggers: tuple[FilterInterface, ...] = (),
    schedule: str | None = None,
    description: str = "",
) -> Dag:
    """A workflow of one step, which is given the input `text` if there is one."""
    text = Input("text") if TEXT in inputs else Constant.of("hi")
    return Dag(
        options=WorkflowOptions(name, schedule=schedule),
        description=description,
        inputs=inputs,
        steps=(Call(function, function, (("text", text),)),),
        output=Result(function),
        triggers=triggers,
    )
