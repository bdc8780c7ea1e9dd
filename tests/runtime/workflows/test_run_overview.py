"""How far the steps of a run are, fan-outs within each other included."""

from __future__ import annotations

from collections.abc import Mapping

from pictured import album, call, workflow

from dsfn.functions.workflow.dag import (
    Collected,
    Dag,
    Decide,
    Each,
    Field,
    Input,
    Item,
    Result,
    Within,
)
from dsfn.runtime.gateway.run_overview import overview
from dsfn.runtime.workflows.model import RunState, StepRecord, StepState

RUNNING, DONE, FAILED = StepState.RUNNING, StepState.SUCCEEDED, StepState.FAILED
SKIPPED = StepState.SKIPPED


def step(id: str, *path: int, state: StepState = DONE, outcome: int | None = None) -> StepRecord:
    return StepRecord(id, path, id, None, state, outcome=outcome)


def states(
    dag: Dag, *steps: StepRecord, run: RunState = RunState.RUNNING
) -> Mapping[str, Mapping[str, int]]:
    return {id_: found.states for id_, found in overview(dag, steps, run, 0).items()}


def test_items_of_a_fan_out_that_have_not_begun_wait() -> None:
    found = states(
        album(),
        step("map", outcome=5),
        step("classify", 0),
        step("classify", 1),
        step("classify", 2, state=RUNNING),
        step("caption", 0),
    )
    assert found["classify"] == {"waiting": 2, "running": 1, "succeeded": 2}
    assert found["caption"] == {"waiting": 4, "succeeded": 1}
    # An item is through when all that is in the fan-out is.
    assert found["map"] == {"running": 4, "succeeded": 1}


def test_items_of_a_run_that_failed_were_cancelled() -> None:
    found = states(
        album(),
        step("map", outcome=3),
        step("classify", 0),
        step("classify", 1, state=FAILED),
        step("caption", 0),
        run=RunState.FAILED,
    )
    assert found["classify"] == {"succeeded": 1, "failed": 1, "cancelled": 1}
    assert found["map"] == {"succeeded": 1, "failed": 2}


def test_a_fan_out_over_nothing_is_through() -> None:
    assert states(album(), step("map", outcome=0))["map"] == {"succeeded": 1}
    assert states(album())["map"] == {}


def nested() -> Dag:
    """For each album each of its photos."""
    albums, photos = Within("albums"), Within("photos")
    return workflow(
        Each("albums", (Input("x"),)),
        call("open", Item("albums"), within=albums),
        Each("photos", (Result("open"),), albums),
        call("look", Item("photos"), within=photos),
        output=Collected("albums", Collected("photos", Result("look"))),
    )


def test_an_item_of_an_outer_fan_out_is_through_when_the_inner_one_is() -> None:
    found = states(
        nested(),
        step("albums", outcome=3),
        *(step("open", at) for at in range(3)),
        step("photos", 0, outcome=2),
        step("photos", 1, outcome=0),
        step("photos", 2, outcome=2),
        step("look", 0, 0),
        step("look", 0, 1),
        step("look", 2, 0),
        step("look", 2, 1, state=RUNNING),
    )
    assert found["albums"] == {"running": 1, "succeeded": 2}
    assert found["photos"] == {"running": 1, "succeeded": 3}
    assert found["look"] == {"running": 1, "succeeded": 3}


def test_a_branch_that_an_item_did_not_take_does_not_hold_it_up() -> None:
    items = Within("map")
    dag = workflow(
        Each("map", (Input("x"),)),
        Decide("when", Field(Item("map"), "loud"), items),
        call("hush", Item("map"), within=Within("when", True)),
        output=Collected("map", Result("hush")),
    )
    found = states(
        dag,
        step("map", outcome=2),
        step("when", 0, outcome=1),
        step("hush", 0),
        step("when", 1, outcome=0),
        step("hush", 1, state=SKIPPED),
    )
    assert found["map"] == {"succeeded": 2}
    assert found["hush"] == {"succeeded": 1, "skipped": 1}
