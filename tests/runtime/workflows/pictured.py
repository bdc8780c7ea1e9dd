"""Workflows to draw: one by hand, and any number of them at random."""

from __future__ import annotations

from hypothesis import strategies as st

from dsfn.functions.workflow.dag import (
    Call,
    Choice,
    Collected,
    Constant,
    Dag,
    Decide,
    Each,
    Expr,
    Input,
    Item,
    ListOf,
    Result,
    Step,
    StepOptions,
    Within,
    WorkflowInput,
    WorkflowOptions,
)


def call(
    id: str, *arguments: Expr, within: Within | None = None, options: StepOptions | None = None
) -> Call:
    """A call of a function of that name."""
    pairs = tuple((f"p{number}", expr) for number, expr in enumerate(arguments))
    return Call(id, id, pairs, within, options or StepOptions())


def workflow(*steps: Step, output: Expr, inputs: tuple[WorkflowInput, ...] = ()) -> Dag:
    """A workflow called `album`."""
    return Dag(WorkflowOptions("album"), "", inputs, steps, output)


def album() -> Dag:
    """A fan-out, a decision and a join."""
    items, heard = Within("map"), Within("when", True)
    return workflow(
        Each("map", (Input("photos"),), None, 8),
        call("classify", Item("map"), within=items, options=StepOptions(retries=3)),
        call("caption", Item("map"), Result("classify"), within=items),
        call("has-speech", Input("voice")),
        Decide("when", Result("has-speech")),
        call("transcribe", Input("voice"), within=heard),
        call(
            "index",
            Collected("map", Result("caption")),
            Choice("when", Result("transcribe"), Constant('""')),
        ),
        output=Result("index"),
        inputs=(WorkflowInput("photos", "image", many=True), WorkflowInput("voice", "audio")),
    )


@st.composite
def workflows(draw: st.DrawFn) -> Dag:
    """Calls, decisions and fan-outs within each other; a step reads what its scope can see."""
    steps: list[Step] = []
    scopes: list[tuple[Within | None, list[Expr]]] = [(None, [Input("x")])]
    for number in range(draw(st.integers(0, 12))):
        within, seen = draw(st.sampled_from(scopes))
        chosen = draw(st.lists(st.sampled_from(seen), min_size=1, max_size=3))
        match draw(st.sampled_from(("call", "call", "decide", "each"))):
            case "call":
                steps.append(call(f"s{number}", *chosen, within=within))
                seen.append(Result(f"s{number}"))
            case "decide":
                steps.append(Decide(f"s{number}", chosen[0], within))
                scopes += [(Within(f"s{number}", taken), list(seen)) for taken in (True, False)]
            case _:
                steps.append(Each(f"s{number}", (chosen[0],), within))
                scopes.append((Within(f"s{number}"), [*seen, Item(f"s{number}")]))
    return workflow(
        *steps, output=ListOf(tuple(scopes[0][1])), inputs=(WorkflowInput("x", "json"),)
    )
