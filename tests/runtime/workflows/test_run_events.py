"""What a run tells to those who subscribed, and that it costs nothing when nobody did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from run_node import COST_NANO, RunNode, answer_to, chain, mapped, of, pure

from dsfn.functions.errors import HandlerCrashed, HandlerRaised
from dsfn.functions.event import Event
from dsfn.functions.interface import FilterInterface
from dsfn.functions.workflow.dag import StepOptions
from dsfn.runtime.events.results import event_of_body
from dsfn.runtime.model import Answer, Call
from dsfn.runtime.registry import Subscription
from dsfn.runtime.workflows.model import Cause, RunState

OnNode = Callable[..., None]


def heard(prefix: str) -> tuple[Subscription, ...]:
    """A function that hears what begins with this."""
    return (Subscription("1", "listener", FilterInterface({}, {"type": prefix}, {}), "user"),)


def events(node: RunNode) -> list[Event]:
    """What is on its way to the listener, in order."""
    rows: Any = node.connection.execute("SELECT body FROM deliveries ORDER BY seq")
    return [event_of_body(body) for (body,) in rows]


def words(node: RunNode) -> list[str]:
    return [event.type.removeprefix("dev.dsfn.") for event in events(node)]


def test_a_run_and_its_steps_are_told_in_order(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        record = await node.run(chain(2), n=1)
        assert words(node) == [
            "run.started",
            "step.started",
            "step.completed",
            "step.started",
            "step.completed",
            "run.succeeded",
        ]
        first, *_, last_step, end = events(node)
        assert {e.source for e in events(node)} == {f"/runs/{record.id}"}
        assert last_step.subject == "flow/s1"
        assert json.loads(last_step.data)["cost"] == {"currency": "EUR", "amount_nano": COST_NANO}
        assert (json.loads(end.data)["result"], end.subject) == (4, "flow")
        assert {e.attribute("correlationid") for e in events(node)} == {record.id}
        assert {e.attribute("causationid") for e in events(node)[1:]} == {first.id}
        assert last_step.id == f"{record.id}.s1..1.completed"

    on_node(scenario, subscriptions=heard("dev.dsfn."))


def test_nothing_is_stored_when_nobody_subscribed_to_it(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        await node.run(chain(2), n=1)
        assert words(node) == ["run.succeeded"]
        ((count,),) = node.connection.execute("SELECT count(*) FROM accepted_events").fetchall()
        assert count == 1

    on_node(scenario, subscriptions=heard("dev.dsfn.run.succ"))


def test_a_failed_run_says_why_once_and_each_retry_is_told(on_node: OnNode) -> None:
    async def behave(call: Call) -> Answer:
        if json.loads(call.body)["n"] == 2:
            raise HandlerRaised("two")
        await asyncio.sleep(0.02)
        return await pure(call)

    async def scenario(node: RunNode) -> None:
        flow = mapped(call=StepOptions(retries=2, backoff_delay_s=0.0))
        record = await node.run(flow, ns=[1, 2, 2, 3])
        assert record.state is RunState.FAILED
        assert words(node).count("step.retried") == 4
        assert words(node).count("step.failed") == 1
        ended = [e for e in events(node) if e.type.startswith("dev.dsfn.run.")]
        assert [e.type for e in ended] == ["dev.dsfn.run.started", "dev.dsfn.run.failed"]
        said = json.loads(ended[-1].data)
        assert said["error"]["detail"] == "two"
        assert said["cost"]["amount_nano"] == record.cost_nano

    on_node(scenario, behave=behave, subscriptions=heard("dev.dsfn."))


def test_what_follows_from_an_event_says_so_and_counts_the_hops(on_node: OnNode) -> None:
    async def scenario(node: RunNode) -> None:
        run = node.new_run(
            chain(1),
            {"n": of(1)},
            cause=Cause("e1", "c1", hops=3),
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        await node.engine.wait(await node.engine.start(run))
        first = events(node)[0]
        assert first.attribute("causationid") == "e1"
        for event in events(node):
            assert event.attribute("correlationid") == "c1"
            assert event.attribute("dsfnhops") == "4"
            assert event.attribute("traceparent") == run.traceparent

    on_node(scenario, subscriptions=heard("dev.dsfn.run"))


def test_a_large_result_is_told_by_reference(on_node: OnNode) -> None:
    async def behave(call: Call) -> Answer:
        return answer_to(call, "x" * 100_000)

    async def scenario(node: RunNode) -> None:
        record = await node.run(chain(1), n=1)
        assert record.output is not None
        (event,) = events(node)
        assert event.attribute("dataref") == record.output.ref
        assert json.loads(event.data)["result"]["$ref"] == record.output.ref

    on_node(scenario, behave=behave, subscriptions=heard("dev.dsfn.step.completed"))


def test_a_result_that_fits_a_row_is_told_whole_whatever_its_characters_are(
    on_node: OnNode,
) -> None:
    text = "\u7269" * 10_900

    async def behave(call: Call) -> Answer:
        return answer_to(call, text)

    async def scenario(node: RunNode) -> None:
        await node.run(chain(1), n=1)
        (event,) = events(node)
        assert json.loads(event.data)["result"] == text

    on_node(scenario, behave=behave, subscriptions=heard("dev.dsfn.step.completed"))


def test_attempts_that_do_not_count_are_told_of_each(on_node: OnNode) -> None:
    crashes = iter([True, True, False])

    async def behave(call: Call) -> Answer:
        if next(crashes):
            raise HandlerCrashed("gone", signal=9)
        return await pure(call)

    async def scenario(node: RunNode) -> None:
        await node.run(chain(1), n=1)
        assert words(node).count("step.started") == 3
        assert words(node).count("step.retried") == 2
        assert words(node).count("step.completed") == 1

    on_node(scenario, behave=behave, subscriptions=heard("dev.dsfn.step."))
