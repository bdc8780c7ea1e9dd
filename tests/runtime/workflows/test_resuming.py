"""A node that starts again: what is taken up, what is not, and what is forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from run_node import (
    COST_NANO,
    ManualClock,
    RunNode,
    chain,
    mapped,
    of,
    one_step,
    pure,
    usage_of,
)

from dsfn.billing.usage import Usage
from dsfn.functions.errors import HandlerRaised, NotFound, ShuttingDown
from dsfn.runtime.model import Answer, Call
from dsfn.runtime.workflows.books import Errors
from dsfn.runtime.workflows.model import RunState
from dsfn.runtime.workflows.store import KEEP_RUNS_S

Behave = Callable[[Call], Awaitable[Answer]]


def stopping_at(place: str, reached: asyncio.Event) -> Behave:
    """Functions of which one, called from this place, never ends."""

    async def behave(call: Call) -> Answer:
        if place in call.caller:
            reached.set()
            await asyncio.sleep(60)
        return await pure(call)

    return behave


async def interrupted(root: Path, dag: Any, place: str, how: str, **inputs: Any) -> RunNode:
    """A node that went, by `how`, while the call of a place ran."""
    reached = asyncio.Event()
    node = RunNode(root, stopping_at(place, reached))
    node.engine.start_serving()
    run = node.new_run(dag, {name: of(value) for name, value in inputs.items()})
    await node.engine.start(run)
    await reached.wait()
    if how == "kill":
        node.kill()
    else:
        await node.close()
    return node


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_run_goes_on_after_a_restart_from_what_was_finished(tmp_path: Path, how: str) -> None:
    async def scenario() -> None:
        before = await interrupted(tmp_path, chain(4), "/s2/", how, n=1)
        ran: list[str] = []

        async def behave(call: Call) -> Answer:
            ran.append(call.caller.split("/")[1])
            return await pure(call)

        node = RunNode(tmp_path, behave)
        node.workflows = before.workflows
        node.engine.start_serving()
        (run,) = node.store.list()
        record = await node.engine.wait(run.id)
        assert node.output(record) == 16
        assert ran == ["s2", "s3"]
        booked = Counter(u.status for u in node.billed())
        assert booked == Counter(succeeded=4, platform=1 if how == "stop" else 0)
        assert record.cost_nano == 4 * COST_NANO
        await node.close()

    asyncio.run(scenario())


def test_a_node_that_stops_lets_calls_end_and_makes_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        reached = asyncio.Event()

        async def behave(call: Call) -> Answer:
            reached.set()
            await asyncio.sleep(0.2)
            return await pure(call)

        node = RunNode(tmp_path, behave)
        node.engine.start_serving()
        await node.engine.start(node.new_run(chain(4), {"n": of(1)}))
        await reached.wait()
        node.engine.drain()
        await node.close(grace_s=10)
        again = RunNode(tmp_path)
        assert [u.status for u in again.billed()] == ["succeeded"]
        again.drop()

    asyncio.run(scenario())


def test_who_waits_for_a_run_hears_that_the_node_stops(tmp_path: Path) -> None:
    async def scenario() -> None:
        reached = asyncio.Event()
        node = RunNode(tmp_path, stopping_at("/s0/", reached))
        node.engine.start_serving()
        waiting = asyncio.create_task(node.run(chain(1), n=1))
        await reached.wait()
        await node.close()
        with pytest.raises(ShuttingDown):
            await waiting

    asyncio.run(scenario())


def test_a_run_that_was_called_off_stays_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        reached = asyncio.Event()
        node = RunNode(tmp_path, stopping_at("/s0/", reached))
        node.engine.start_serving()
        run = await node.engine.start(node.new_run(chain(1), {"n": of(1)}))
        await reached.wait()
        node.engine.cancel(run)
        node.kill()
        again = RunNode(tmp_path)
        again.workflows = node.workflows
        again.engine.start_serving()
        record = await again.engine.wait(run)
        assert (record.state, again.billed()) == (RunState.CANCELLED, [])
        await again.close()

    asyncio.run(scenario())


def test_rows_that_the_ledger_had_not_got_are_posted_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        node = RunNode(tmp_path)

        def lose(rows: Sequence[Usage], done: Callable[[Errors], None]) -> None:
            done([None for _ in rows])

        node.engine._machine.books.post = lose
        node.engine.start_serving()
        await node.run(chain(3), n=1)
        assert node.billed() == []
        node.kill()
        again = RunNode(tmp_path)
        again.engine.start_serving()
        assert len(again.billed()) == 3
        await again.close()

    asyncio.run(scenario())


def test_a_run_whose_workflow_is_gone_ends_with_that(tmp_path: Path) -> None:
    async def scenario() -> None:
        await interrupted(tmp_path, chain(2), "/s1/", "kill", n=1)
        node = RunNode(tmp_path)
        node.engine.start_serving()
        (run,) = node.store.list()
        record = await node.engine.wait(run.id)
        assert record.state is RunState.FAILED
        assert record.error is not None and record.error["error"] == "NotFound"
        await node.close()

    asyncio.run(scenario())


def test_many_interrupted_runs_are_taken_up_while_the_node_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()

        async def behave(call: Call) -> Answer:
            await go_on.wait()
            return await pure(call)

        node = RunNode(tmp_path, behave)
        node.engine.start_serving()
        runs = [node.new_run(chain(2), {"n": of(n)}) for n in range(300)]
        await asyncio.gather(*map(node.engine.start, runs))
        node.kill()
        again = RunNode(tmp_path)
        again.workflows = node.workflows
        again.engine.start_serving()
        assert again.engine.under_way() == 300
        new = again.output(await again.run(chain(1), n=21))
        assert new == 42 and again.engine.under_way() > 0
        for run in runs:
            assert (await again.engine.wait(run.id)).state is RunState.SUCCEEDED
        assert len(again.billed()) == 601
        await again.close()

    asyncio.run(scenario())


def test_a_wait_between_attempts_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        failed = asyncio.Event()

        async def fails(call: Call) -> Answer:
            failed.set()
            raise HandlerRaised("not yet")

        dag = one_step(retries=3, backoff_delay_s=1000.0)
        node = RunNode(tmp_path, fails, clock=clock)
        node.engine.start_serving()
        run = await node.engine.start(node.new_run(dag, {"n": of(1)}))
        await failed.wait()
        await node.close()
        for wait_s, attempts in ((10, 0), (2000, 1)):
            clock.advance(wait_s)
            ran: list[Usage] = []

            async def counts(call: Call, ran: list[Usage] = ran) -> Answer:
                ran.append(usage_of(call))
                return await pure(call)

            again = RunNode(tmp_path, counts, clock=clock)
            again.workflows = node.workflows
            again.engine.start_serving()
            if attempts:
                assert (await again.engine.wait(run)).state is RunState.SUCCEEDED
                ((_, step, _),) = again.store.steps(run)
                assert (step.attempts, len(step.invocations)) == (2, 2)
            else:
                await asyncio.sleep(0.05)
            assert len(ran) == attempts
            await again.close()

    asyncio.run(scenario())


def test_runs_are_kept_two_months_and_those_under_way_longer(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        reached = asyncio.Event()
        node = RunNode(tmp_path, stopping_at("/s3/", reached), clock=clock)
        node.engine.start_serving()
        old = await node.run(mapped(), ns=[1, 2, 3])
        going = await node.engine.start(node.new_run(chain(4), {"n": of(1)}))
        await reached.wait()
        clock.advance(KEEP_RUNS_S - 1)
        assert node.store.prune() == 0
        clock.advance(2)
        while node.store.prune():
            pass
        with pytest.raises(NotFound):
            node.store.get(old.id)
        assert node.store.get(going).state is RunState.RUNNING
        ((rows,),) = node.connection.execute("SELECT count(*) FROM steps").fetchall()
        assert rows == 3
        await node.close()

    asyncio.run(scenario())
