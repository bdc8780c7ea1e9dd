"""The state machine of a run by itself: which steps are ready, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from dags import dags
from hypothesis import given
from hypothesis import strategies as st
from run_node import chain, mapped, workflow

from dsfn.functions.workflow.dag import (
    Call,
    Choice,
    Collected,
    Constant,
    Dag,
    Decide,
    Each,
    Item,
    ListOf,
    Result,
    Within,
)
from dsfn.runtime.workflows.plan import plan_of
from dsfn.runtime.workflows.progress import Instance, Progress, restored

Outcomes = dict[Instance, int | None]


def outcome_of(dag: Dag, instance: Instance) -> int | None:
    """Some outcome that depends on nothing but the instance."""
    step = dag.by_id[instance[0]]
    if isinstance(step, Decide):
        return sum(instance[1]) % 2
    return len(instance[0]) % 4 if isinstance(step, Each) else None


def run(dag: Dag, choose: Callable[[int], int] = lambda count: 0) -> Outcomes:
    """Settles all that becomes ready, each time one that is chosen, until all is over."""
    progress = Progress(plan_of(dag))
    progress.begin()
    outcomes: Outcomes = {}
    while progress.ready:
        progress.ready.rotate(-choose(len(progress.ready)))
        instance = progress.ready.popleft()
        assert instance not in outcomes
        outcomes[instance] = outcome_of(dag, instance)
        progress.settle(instance, outcomes[instance])
    assert progress.over
    return outcomes


@given(dag=dags(max_steps=20), data=st.data())
def test_the_same_steps_run_in_whatever_order_they_end(dag: Dag, data: Any) -> None:
    choose = data.draw(st.randoms(use_true_random=False)).randrange
    assert run(dag, choose).keys() == run(dag).keys()


@given(dag=dags(max_steps=20), data=st.data())
def test_what_was_stored_brings_a_run_back_to_where_it_was(dag: Dag, data: Any) -> None:
    luck = data.draw(st.randoms(use_true_random=False))
    progress = Progress(plan_of(dag))
    progress.begin()
    outcomes: Outcomes = {}
    for _ in range(luck.randrange(30)):
        if progress.ready:
            instance = progress.ready.popleft()
            outcomes[instance] = outcome_of(dag, instance)
            progress.settle(instance, outcomes[instance])
    again = restored(progress.plan, outcomes)
    assert set(again.ready) == set(progress.ready)
    assert (again.over, again.instances) == (progress.over, progress.instances)


def test_a_step_waits_for_all_that_it_reads_and_no_more() -> None:
    dag = workflow(
        Call("a", "f", ()),
        Call("b", "f", ()),
        Call("join", "f", (("x", ListOf((Result("a"), Result("b")))),)),
        output=Result("join"),
    )
    progress = Progress(plan_of(dag))
    progress.begin()
    assert list(progress.ready) == [("a", ()), ("b", ())]
    progress.ready.clear()
    progress.settle(("b", ()))
    assert not progress.ready
    progress.settle(("a", ()))
    assert list(progress.ready) == [("join", ())]


def test_a_branch_that_is_not_taken_settles_with_all_that_is_in_it() -> None:
    dag = workflow(
        Decide("d", Constant.of(1)),
        Each("e", (Constant.of([1]),), Within("d", False)),
        Call("in", "f", (), Within("e")),
        Decide("d2", Constant.of(1), Within("d", False)),
        Call("deep", "f", (), Within("d2", True)),
        Call("after", "f", (("x", Choice("d", Constant.of(0), Collected("e", Result("in")))),)),
        output=Result("after"),
    )
    progress = Progress(plan_of(dag))
    progress.begin()
    assert progress.ready.popleft() == ("d", ())
    progress.settle(("d", ()), 1)
    assert list(progress.ready) == [("after", ())]
    progress.settle(("after", ()))
    assert progress.over


def test_items_begin_in_order_and_as_many_at_once_as_the_map_says() -> None:
    progress = Progress(plan_of(mapped(2)))
    progress.begin()
    progress.settle(progress.ready.popleft(), 4)
    assert list(progress.ready) == [("s", (0,)), ("s", (1,))]
    progress.settle(("s", (1,)))
    assert progress.ready[-1] == ("s", (2,))
    for index in (0, 2, 3):
        assert not progress.over
        progress.settle(("s", (index,)))
    assert progress.over


def test_a_map_over_nothing_and_one_without_steps_are_through_at_once() -> None:
    for dag, count in (
        (mapped(), 0),
        (workflow(Each("e", (Constant.of([1]),)), output=Collected("e", Item("e"))), 5),
    ):
        progress = Progress(plan_of(dag))
        progress.begin()
        progress.settle(progress.ready.popleft(), count)
        assert progress.over


def test_a_workflow_without_steps_is_over_at_once() -> None:
    progress = Progress(plan_of(workflow(output=Constant.of(1))))
    progress.begin()
    assert progress.over


def test_ten_times_the_items_cost_about_ten_times_as_much() -> None:
    def seconds(count: int) -> float:
        progress = Progress(plan_of(mapped(100)))
        progress.begin()
        begun = time.process_time()
        progress.settle(progress.ready.popleft(), count)
        while progress.ready:
            progress.settle(progress.ready.popleft())
        assert progress.over
        return time.process_time() - begun

    small, large = min(seconds(1_000) for _ in range(5)), min(seconds(10_000) for _ in range(3))
    assert large < 25 * small
    assert len(run(chain(1_000))) == 1_000
