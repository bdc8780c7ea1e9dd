"""What the engine does with runs: failures, retries, limits, turns, ends."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from run_node import (
    COST_NANO,
    RunNode,
    answer_to,
    chain,
    mapped,
    new_id,
    of,
    one_step,
    pure,
    workflow,
)

from dsfn.billing.sqlite import transaction
from dsfn.functions import errors
from dsfn.functions.errors import (
    Conflict,
    HandlerRaised,
    IdempotencyMismatch,
    InvalidInput,
    NotFound,
    StorageFull,
    Unavailable,
)
from dsfn.functions.workflow.dag import (
    Call as CallStep,
)
from dsfn.functions.workflow.dag import (
    Choice,
    Collected,
    Constant,
    Decide,
    Each,
    Fallback,
    Input,
    Item,
    ListOf,
    Result,
    Within,
    WorkflowInput,
)
from dsfn.runtime.model import Answer, Call
from dsfn.runtime.workflows import calls, tally, turns
from dsfn.runtime.workflows.model import RunState, StepState

OnNode = Callable[..., None]
N = (WorkflowInput("n", "json"),)


def failing(times: int, error: errors.DsfnError, only: str = "") -> Any:
    """Functions that fail so many times, those called from a step named `only` alone."""
    left = Counter({"": times})

    async def behave(call: Call) -> Answer:
        if only in call.caller and left[""] > 0:
            left[""] -= 1
            raise type(error)(error.message, **error.fields)
        return await pure(call)

    return behave


def test_a_step_that_fails_ends_its_run_with_the_place_and_the_reason(on_node: OnNode) -> None:
    async def behave(call: Call) -> Answer:
        if json.loads(call.body)["n"] == 3:
            raise HandlerRaised("ValueError: three", exception="ValueError")
        await asyncio.sleep(5 if json.loads(call.body)["n"] > 3 else 0)
        return await pure(call)

    async def scenario(node: RunNode) -> None:
        record = await node.run(mapped(), ns=[1, 2, 3, 4, 5])
        assert record.state is RunState.FAILED and record.output is None
        assert record.error is not None and record.error["message"] == "ValueError: three"
        fields = record.error["fields"]
        assert (fields["run"], fields["step"], fields["item"]) == (record.id, "s", 2)
        steps, after = node.engine.steps(record.id)
        states = {step.path: step.state for step in steps if step.step == "s"}
        assert states == {
            (0,): StepState.SUCCEEDED,
            (1,): StepState.SUCCEEDED,
            (2,): StepState.FAILED,
            (3,): StepState.CANCELLED,
            (4,): StepState.CANCELLED,
        }
        assert after == 0
        assert Counter(u.status for u in node.billed()) == {
            "succeeded": 2,
            "failed": 1,
            "cancelled": 2,
        }
        assert record.cost_nano == 5 * COST_NANO

    on_node(scenario, behave=behave)


def test_a_step_is_tried_again_as_often_as_it_says(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        record = await node.run(one_step(retries=2, backoff_delay_s=0.01), n=4)
        assert node.output(record) == 8
        ((_, step, _),) = node.store.steps(record.id)
        assert (step.attempts, len(step.invocations)) == (3, 3)
        assert step.cost_nano == 3 * COST_NANO == record.cost_nano
        assert {u.invocation_id for u in node.billed()} == set(step.invocations)

    on_node(scenario, behave=failing(2, HandlerRaised("no")))


def test_a_step_that_fails_more_often_fails_its_run(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        record = await node.run(one_step(retries=1, backoff_delay_s=0.01), n=4)
        assert record.state is RunState.FAILED
        assert len(node.billed()) == 2

    on_node(scenario, behave=failing(2, HandlerRaised("no")))


def test_the_callers_own_mistake_is_not_tried_again(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        record = await node.run(one_step(retries=5), n=4)
        assert record.error is not None and record.error["error"] == "InvalidInput"
        assert len(node.billed()) == 1

    on_node(scenario, behave=failing(1, InvalidInput("no")))


@pytest.mark.parametrize("error", [errors.QueueFull("full"), errors.ReplicaLost("gone")])
def test_what_cannot_be_served_now_is_postponed_and_does_not_count(
    on_node: OnNode, error: errors.DsfnError
) -> None:
    async def scenario(node: RunNode) -> None:
        record = await node.run(one_step(), n=4)
        assert node.output(record) == 8
        ((_, step, _),) = node.store.steps(record.id)
        assert step.attempts == 1

    with patch.object(tally, "_FIRST_POSTPONEMENT_S", 0.001):
        on_node(scenario, behave=failing(6, error))


def test_a_crash_counts_only_from_the_fourth_time_on(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        assert node.output(await node.run(one_step(), n=4)) == 8
        node.behave = failing(4, errors.HandlerCrashed("killed"))
        assert (await node.run(one_step(), n=4)).state is RunState.FAILED

    with patch.object(tally, "_FIRST_POSTPONEMENT_S", 0.001):
        on_node(scenario, behave=failing(3, errors.HandlerCrashed("killed")))


def test_a_function_stands_in_for_a_step_that_fails_for_good(on_node: OnNode) -> None:
    async def behave(call: Call) -> Answer:
        if call.function == "double":
            raise HandlerRaised("never")
        return answer_to(call, "halved")

    async def scenario(node: RunNode) -> None:
        options = {"retries": 1, "backoff_delay_s": 0.0, "fallback": Fallback(function="halve")}
        record = await node.run(one_step(**options), n=4)
        assert node.output(record) == "halved"
        ((_, step, _),) = node.store.steps(record.id)
        assert (step.function, step.attempts) == ("halve", 3)

    on_node(scenario, behave=behave)


def test_a_constant_stands_in_for_a_step_that_fails_for_good(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        flow = one_step(fallback=Fallback(value=Constant.of({"n": None})))
        record = await node.run(flow, n=4)
        assert node.output(record) == {"n": None}
        ((_, step, _),) = node.store.steps(record.id)
        assert (step.function, step.state, step.attempts) == ("double", "succeeded", 1)
        assert step.cost_nano == record.cost_nano == COST_NANO

    on_node(scenario, behave=failing(9, HandlerRaised("never")))


def test_a_step_over_its_timeout_is_stopped_and_fails(on_node: OnNode) -> None:
    async def behave(call: Call) -> Answer:
        await asyncio.sleep(20)
        raise AssertionError

    async def scenario(node: RunNode) -> None:
        record = await node.run(one_step(timeout_s=0.05), n=4)
        assert record.error is not None
        assert record.error["error"] == "HandlerTimedOut"
        assert record.error["fields"]["timeout_s"] == 0.05
        assert [u.status for u in node.billed()] == ["cancelled"]
        assert record.cost_nano == COST_NANO

    on_node(scenario, behave=behave)


def test_a_run_over_its_timeout_ends(on_node: OnNode) -> None:
    async def behave(call: Call) -> Answer:
        await asyncio.sleep(20)
        raise AssertionError

    async def scenario(node: RunNode) -> None:
        record = await node.run(chain(3, timeout_s=0.05), n=4)
        assert record.state is RunState.FAILED
        assert record.error is not None and record.error["error"] == "RunTimedOut"

    on_node(scenario, behave=behave)


def test_calling_a_run_off_reaches_the_call_that_runs(on_node: OnNode) -> None:
    running, stopped = asyncio.Event(), asyncio.Event()

    async def behave(call: Call) -> Answer:
        running.set()
        try:
            await asyncio.sleep(20)
        finally:
            stopped.set()
        raise AssertionError

    async def scenario(node: RunNode) -> None:
        run = await node.engine.start(node.new_run(chain(3), {"n": of(1)}))
        await running.wait()
        assert [s.state for s in node.engine.steps(run)[0]] == ["running", "waiting", "waiting"]
        node.engine.cancel(run)
        record = await node.engine.wait(run)
        assert stopped.is_set()
        assert (record.state, record.error) == (RunState.CANCELLED, None)
        assert [s.state for s in node.engine.steps(run)[0]] == ["cancelled"] * 3
        with pytest.raises(Conflict):
            node.engine.cancel(run)
        with pytest.raises(NotFound):
            node.engine.cancel("unknown")

    on_node(scenario, behave=behave)


def test_one_idempotency_key_is_one_run_however_often_it_comes(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        runs = [node.new_run(chain(2), {"n": of(1)}, idempotency_key="k") for _ in range(20)]
        ids = await asyncio.gather(*map(node.engine.start, runs))
        assert set(ids) == {runs[0].id}
        await node.engine.wait(ids[0])
        assert await node.engine.start(runs[7]) == ids[0]
        assert len(node.billed()) == 2
        with pytest.raises(IdempotencyMismatch):
            await node.engine.start(node.new_run(chain(2), {"n": of(2)}, idempotency_key="k"))

    on_node(scenario)


def test_a_map_over_too_many_items_is_refused_and_others_go_on(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        other = asyncio.create_task(node.run(chain(20), n=1))
        record = await node.run(mapped(), ns=list(range(100_001)))
        assert record.error is not None
        assert "more than 10000 items" in record.error["message"]
        assert record.error["fields"]["step"] == "each"
        assert node.output(await other) == 2**20 % 1_000_003

    on_node(scenario)


def test_a_run_with_too_many_steps_is_refused(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        inner = [CallStep(f"s{i}", "double", (), Within("each")) for i in range(20)]
        flow = workflow(Each("each", (Input("ns"),)), *inner, output=Constant.of(1), inputs=N)
        record = await node.run(flow, ns=list(range(5_001)))
        assert record.error is not None and "over 100000 steps" in record.error["message"]
        assert node.billed() == []

    on_node(scenario)


def test_lists_of_different_lengths_are_refused(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        flow = workflow(Each("e", (Input("a"), Input("b"))), output=Constant.of(1), inputs=N)
        record = await node.run(flow, a=[1, 2], b=[1])
        assert record.error is not None and "different lengths: 2, 1" in record.error["message"]

    on_node(scenario)


def test_what_is_too_large_to_be_handed_on_fails_its_run(on_node: OnNode) -> None:
    async def behave(call: Call) -> Answer:
        return answer_to(call, "x" * 600_000)

    async def scenario(node: RunNode) -> None:
        flow = workflow(
            CallStep("a", "double", ()),
            CallStep("b", "total", (("ns", ListOf((Result("a"), Result("a")))),)),
            output=Result("b"),
        )
        record = await node.run(flow)
        assert record.error is not None and record.error["error"] == "PayloadTooLarge"

    on_node(scenario, behave=behave)


def test_more_runs_than_may_be_under_way_are_refused_for_now(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        go_on = asyncio.Event()

        async def behave(call: Call) -> Answer:
            await go_on.wait()
            return await pure(call)

        node.behave = behave
        ids = [await node.engine.start(node.new_run(chain(1), {"n": of(1)})) for _ in range(3)]
        with pytest.raises(Unavailable) as refused:
            await node.engine.start(node.new_run(chain(1), {"n": of(1)}))
        assert refused.value.fields["retry_after_s"] == 5
        go_on.set()
        await node.engine.wait(ids[0])
        assert node.output(await node.run(chain(1), n=1)) == 2

    on_node(scenario, max_runs=3)


def test_runs_take_turns_however_many_steps_one_has(on_node: OnNode) -> None:
    begun: list[str] = []

    async def behave(call: Call) -> Answer:
        begun.append(call.caller.split("/")[0])
        await asyncio.sleep(0.001)
        return await pure(call)

    async def scenario(node: RunNode) -> None:
        wide = await node.engine.start(
            node.new_run(mapped(1000, parallel=1000), {"ns": of(list(range(1000)))})
        )
        small = await node.engine.start(node.new_run(chain(5), {"n": of(1)}))
        await node.engine.wait(small)
        assert begun.index(f"run:{small}") < 60
        assert begun.count(f"run:{wide}") < 400
        await node.engine.wait(wide)

    with patch.object(calls.Calls, "__init__", _few(calls.Calls.__init__)):
        on_node(scenario, behave=behave)


def _few(init: Any) -> Any:
    def made(self: Any, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **{**named, "max_calls": 32})

    return made


def test_a_map_runs_as_many_items_at_once_as_it_says_in_order(on_node: OnNode) -> None:
    running, most, order = 0, 0, []

    async def behave(call: Call) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(json.loads(call.body)["n"])
        await asyncio.sleep(0.002)
        running -= 1
        return await pure(call)

    async def scenario(node: RunNode) -> None:
        record = await node.run(mapped(3), ns=list(range(20)))
        assert node.output(record) == [2 * n for n in range(20)]
        assert (most, order) == (3, list(range(20)))

    on_node(scenario, behave=behave)


def test_a_result_is_used_again_where_the_step_says_so(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        for expected_calls in (1, 1):
            record = await node.run(one_step(cache=True), n=4)
            assert node.output(record) == 8
            assert len(node.billed()) == expected_calls
        ((_, step, _),) = node.store.steps(record.id)
        assert (step.cached, step.attempts, step.cost_nano) == (True, 0, 0)
        await node.run(one_step(cache=True), n=5)
        assert len(node.billed()) == 2

    on_node(scenario)


def test_a_run_ends_before_it_costs_more_than_its_budget(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        record = await node.run(chain(5, budget_nano=3 * COST_NANO), n=1)
        assert record.state is RunState.FAILED and record.cost_nano == 3 * COST_NANO
        assert record.error is not None
        assert record.error["error"] == "BudgetExceeded"
        assert record.error["fields"]["step"] == "s3"
        record = await node.run(mapped(budget_nano=3 * COST_NANO), ns=list(range(9)))
        assert record.state is RunState.FAILED and record.cost_nano <= 3 * COST_NANO
        enough = await node.run(mapped(budget_nano=9 * COST_NANO), ns=list(range(9)))
        assert enough.state is RunState.SUCCEEDED

    on_node(scenario)


def test_a_step_over_its_budget_is_not_tried_again(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        flow = one_step(budget_nano=2 * COST_NANO, retries=9, backoff_delay_s=0.0)
        record = await node.run(flow, n=1)
        assert record.error is not None and record.error["fields"]["of"] == "step"
        assert len(node.billed()) == 2

    on_node(scenario, behave=failing(9, HandlerRaised("no")))


def test_a_retry_takes_over_what_was_finished_and_pays_for_the_rest(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        failed = await node.run(chain(4), n=1)
        assert failed.state is RunState.FAILED
        again = await node.engine.retry(failed.id, new_id(0))
        record = await node.engine.wait(again)
        assert node.output(record) == 16
        assert (record.retry_of, record.cost_nano) == (failed.id, 2 * COST_NANO)
        assert [s.cost_nano for s in node.engine.steps(again)[0]] == [0, 0, COST_NANO, COST_NANO]
        with pytest.raises(Conflict):
            await node.engine.retry(again, new_id(0))

    on_node(scenario, behave=failing(1, HandlerRaised("once"), only="/s2/"))


def test_only_the_branch_that_was_taken_runs_and_the_other_is_skipped(on_node: OnNode) -> None:
    flow = workflow(
        Decide("d", Input("n")),
        CallStep("a", "double", (("n", Constant.of(1)),), Within("d", True)),
        CallStep("b", "double", (("n", Constant.of(2)),), Within("d", False)),
        output=Choice("d", Result("a"), Result("b")),
        inputs=N,
    )

    async def scenario(node: RunNode) -> None:
        record = await node.run(flow, n=[])
        assert node.output(record) == 4
        states = {s.step: s.state for s in node.engine.steps(record.id)[0]}
        assert states == {"d": "succeeded", "a": "skipped", "b": "succeeded"}

    on_node(scenario)


def test_steps_come_in_pages(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        record = await node.run(mapped(), ns=list(range(25)))
        found, after = [], 0
        while True:
            page, after = node.engine.steps(record.id, limit=10, after=after)
            found += page
            if not after:
                break
        assert sorted(s.path for s in found) == [(), *((i,) for i in range(25))]

    on_node(scenario)


def test_watching_a_run_shows_its_steps_and_then_its_end(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        run = node.new_run(chain(2), {"n": of(1)})
        every = node.engine.watch()
        started = asyncio.create_task(node.engine.start(run))
        first = await anext(every)
        assert (first.run, first.step and first.step.state) == (run.id, "running")
        seen = [first.step]
        async for change in every:
            if change.ended is not None:
                assert change.ended.state is RunState.SUCCEEDED
                break
            seen.append(change.step)
        assert [(s.step, s.state) for s in seen if s is not None] == [
            ("s0", "running"),
            ("s0", "succeeded"),
            ("s1", "running"),
            ("s1", "succeeded"),
        ]
        assert [c.ended is not None async for c in node.engine.watch(await started)] == [True]

    on_node(scenario)


def test_a_full_disk_holds_runs_up_and_loses_nothing(on_node: OnNode) -> None:
    full = Counter[str]()

    def sometimes(connection: Any) -> Any:
        full["times"] += 1
        if full["times"] % 3 == 0:
            raise StorageFull("The disk is full.")
        return transaction(connection)

    async def scenario(node: RunNode) -> None:
        run = None
        while run is None:
            try:
                run = await node.engine.start(node.new_run(chain(6), {"n": of(1)}))
            except StorageFull:
                continue
        other = mapped(2)
        with pytest.raises(StorageFull):
            for _ in range(9):
                await node.engine.start(node.new_run(other, {"ns": of([1, 2, 3])}))
        assert node.output(await node.engine.wait(run)) == 64
        for record in node.store.list():
            ended = await node.engine.wait(record.id)
            assert ended.state is RunState.SUCCEEDED
        keys = Counter(u.idempotency_key for u in node.billed())
        assert set(keys.values()) == {1}

    with patch.object(turns, "transaction", sometimes), patch.object(turns, "PAUSE_S", 0.01):
        on_node(scenario)


def test_a_fault_of_the_node_ends_the_run_and_no_other(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        conductor = node.engine._conductor
        spared = conductor.attempt_ended

        def faulty(ended: Any) -> None:
            if ended.run.id == poor.id and ended.instance[0] == "s1":
                raise RuntimeError("a mistake of ours")
            spared(ended)

        poor = node.new_run(chain(3), {"n": of(1)})
        with patch.object(type(conductor), "attempt_ended", lambda _, ended: faulty(ended)):
            other = asyncio.create_task(node.run(chain(10), n=1))
            record = await node.engine.wait(await node.engine.start(poor))
            assert record.state is RunState.FAILED
            assert record.error is not None and "a mistake of ours" in record.error["message"]
            assert (await other).state is RunState.SUCCEEDED

    on_node(scenario)


def test_runs_are_listed_last_first_and_by_workflow_and_state(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        good = [(await node.run(chain(1), n=i)).id for i in range(3)]
        bad = (await node.run(mapped(), ns=5)).id
        assert [r.id for r in node.store.list()] == [bad, *reversed(good)]
        assert [r.id for r in node.store.list(state=RunState.FAILED)] == [bad]
        assert [r.id for r in node.store.list(workflow="flow", limit=2, before=bad)] == [
            good[2],
            good[1],
        ]
        assert node.store.list(workflow="other", state=RunState.FAILED) == []
        with pytest.raises(NotFound):
            node.store.list(before="unknown")

    on_node(scenario)


def test_runs_pin_revisions_while_they_are_under_way(on_node: OnNode) -> None:
    go_on = asyncio.Event()

    async def behave(call: Call) -> Answer:
        await go_on.wait()
        return await pure(call)

    async def scenario(node: RunNode) -> None:
        run = node.new_run(chain(1), {"n": of(1)})
        await node.engine.start(run)
        assert node.store.pinned() == {"double-0000000001"}
        go_on.set()
        await node.engine.wait(run.id)
        assert node.store.pinned() == frozenset()
        assert node.store.workflow_revisions() == {run.revision.id}

    on_node(scenario, behave=behave)


def test_items_of_items_join_in_order(on_node: OnNode) -> None:
    inner = CallStep("s", "double", (("n", Item("in")),), Within("in"))
    flow = workflow(
        Each("out", (Input("rows"),)),
        Each("in", (Item("out"),), Within("out")),
        inner,
        output=Collected("out", Collected("in", Result("s"))),
        inputs=N,
    )

    async def scenario(node: RunNode) -> None:
        record = await node.run(flow, rows=[[1, 2], [], [3]])
        assert node.output(record) == [[2, 4], [], [6]]

    on_node(scenario)


def test_a_slow_function_does_not_hold_up_others(on_node: OnNode) -> None:
    go_on = asyncio.Event()

    async def behave(call: Call) -> Answer:
        if call.function == "total":
            await go_on.wait()
        return await pure(call)

    def slow() -> Any:
        steps = [CallStep(f"t{i}", "total", (("ns", Constant.of([i])),)) for i in range(30)]
        return workflow(*steps, output=ListOf(tuple(Result(s.id) for s in steps)))

    async def scenario(node: RunNode) -> None:
        runs = [await node.engine.start(node.new_run(slow(), {})) for _ in range(30)]
        record = await node.run(chain(5), n=1)
        assert node.output(record) == 32
        go_on.set()
        for run in runs:
            assert node.output(await node.engine.wait(run)) == list(range(30))

    on_node(scenario, behave=behave)


def test_a_few_large_runs_leave_places_to_small_ones(on_node: OnNode) -> None:
    go_on = asyncio.Event()

    async def behave(call: Call) -> Answer:
        if call.function == "double":
            await go_on.wait()
        return await pure(call)

    async def scenario(node: RunNode) -> None:
        large = [
            await node.engine.start(
                node.new_run(mapped(1000, parallel=1000), {"ns": of(list(range(100)))})
            )
            for _ in range(2)
        ]
        total = CallStep("t", "total", (("ns", Constant.of([1, 2])),))
        assert node.output(await node.run(workflow(total, output=Result("t")))) == 3
        go_on.set()
        for run in large:
            assert len(node.output(await node.engine.wait(run))) == 100

    with patch.object(calls.Calls, "__init__", _few(calls.Calls.__init__)):
        on_node(scenario, behave=behave)
