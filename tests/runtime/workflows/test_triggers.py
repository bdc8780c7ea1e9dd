from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from event_node import EventNode, ManualClock, answer_to, new_id
from fake_engine import FakeEngine
from revisions import event_type, make_revision
from small_dags import TEXT, make_dag

from dsfn.functions.errors import Unavailable
from dsfn.functions.event import Event
from dsfn.runtime.events.delivery import Delivery
from dsfn.runtime.model import Answer, Call
from dsfn.runtime.workflows.model import Blob, NewRun
from dsfn.runtime.workflows.pins import Pins
from dsfn.runtime.workflows.starter import Starter
from dsfn.runtime.workflows.triggers import Triggers


class TriggerNode(EventNode):
    """One life of a node whose workflow `relay` takes a text and listens to events "said"."""

    def __init__(self, root: Path, clock: ManualClock, runs: dict[str, NewRun]) -> None:
        self.called: list[str] = []
        super().__init__(root, clock, self._answer)
        self.engine = FakeEngine(runs)
        starter = Starter(self.workflows, Pins(self.registry), self.blobs, clock, new_id, 1 << 20)
        self.triggers = Triggers(starter, self.engine, "EUR")

    async def _answer(self, call: Call) -> Answer:
        self.called.append(call.function)
        return answer_to(call)

    async def start_run(self, delivery: Delivery, body: bytes) -> Answer:
        return await self.triggers.start(delivery, body)

    def accept(self, *events: Event) -> int:
        return asyncio.run(self.router.accept(events))

    def drain(self) -> None:
        """Takes every due delivery through."""

        async def main() -> None:
            while await self.step():
                pass

        asyncio.run(main())


@pytest.fixture
def runs() -> dict[str, NewRun]:
    return {}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def node(tmp_path: Path, clock: ManualClock, runs: dict[str, NewRun]) -> Iterator[TriggerNode]:
    made = TriggerNode(tmp_path, clock, runs)
    made.registry.register(make_revision(1))
    dag = make_dag(triggers=(event_type("said"),))
    made.workflows.register(made.workflows.new_revision(dag))
    yield made
    made.close()


def said(number: int, text: object = "hi", **extensions: str | int) -> Event:
    data = json.dumps({"text": text}).encode()
    return Event(id=f"s{number}", source="/here", type="said", data=data, extensions=extensions)


def texts(runs: dict[str, NewRun]) -> list[object]:
    values = [run.inputs[TEXT.name] for run in runs.values()]
    return [json.loads(v.inline or b"") for v in values if isinstance(v, Blob)]


def test_an_event_starts_a_run_and_its_delivery_names_it(
    node: TriggerNode, runs: dict[str, NewRun]
) -> None:
    assert node.accept(said(1)) == 1
    node.drain()
    (run,) = runs.values()
    assert texts(runs) == ["hi"]
    assert run.cause is not None and run.cause.id == "s1"
    (id_,) = node.ids("relay")
    assert node.queue.get(id_).revision == run.revision.id
    answer = asyncio.run(node.queue.result(id_))
    assert json.loads(answer.body) == {"run": run.id}
    assert answer.charge.cost_nano == 0


def test_no_event_follows_from_the_start_of_a_run(node: TriggerNode) -> None:
    node.deploy("listener", event_type("dev.dsfn.function.completed"))
    node.accept(said(1))
    node.drain()
    assert node.states("listener") == []


def test_the_same_event_again_starts_no_other_run(
    node: TriggerNode, runs: dict[str, NewRun]
) -> None:
    assert [node.accept(said(1)), node.accept(said(1)), node.accept(said(1))] == [1, 0, 0]
    node.drain()
    assert len(runs) == 1


def test_events_that_come_out_of_order_all_start_their_run(
    node: TriggerNode, runs: dict[str, NewRun]
) -> None:
    for number in (3, 1, 2):
        node.accept(said(number, f"text {number}"))
    node.accept(said(3, "text 3"))
    node.drain()
    assert texts(runs) == ["text 3", "text 1", "text 2"]


def test_a_node_that_is_killed_after_the_run_was_stored_starts_no_second_one(
    node: TriggerNode, tmp_path: Path, clock: ManualClock, runs: dict[str, NewRun]
) -> None:
    node.accept(said(1))

    async def killed(delivery: Delivery, answer: Answer) -> None:
        raise KeyboardInterrupt

    node.outcomes.succeeded = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        node.drain()
    assert len(runs) == 1
    after = TriggerNode(tmp_path, clock, runs)
    after.queue.recover()
    after.drain()
    assert after.states("relay") == ["succeeded"] and len(runs) == 1
    after.close()


def test_a_poison_event_is_dead_with_the_reason_and_others_go_on(
    node: TriggerNode, runs: dict[str, NewRun]
) -> None:
    node.deploy("listener", event_type("dev.dsfn.workflow.refused"))
    node.accept(said(1, "a"), said(2, 5), said(3, "b"))
    node.drain()
    assert node.states("relay") == ["succeeded", "dead", "succeeded"]
    assert texts(runs) == ["a", "b"]
    error = node.queue.get(node.ids("relay")[1]).error
    assert error is not None and error["error"] == "InvalidInput"
    assert error["fields"]["field"] == "text"
    assert node.called == ["listener"]


def test_an_event_waits_while_no_run_can_be_taken_on(
    node: TriggerNode, clock: ManualClock, runs: dict[str, NewRun]
) -> None:
    node.engine.refuses = Unavailable("There are too many runs.", retry_after_s=5)
    node.accept(said(1))
    node.drain()
    assert node.states("relay") == ["queued"]
    node.engine.refuses = None
    clock.advance(6)
    node.drain()
    assert node.states("relay") == ["succeeded"] and len(runs) == 1


def test_an_event_for_a_workflow_that_was_deleted_is_dead(node: TriggerNode) -> None:
    node.accept(said(1))
    node.workflows.delete("relay")
    node.drain()
    assert node.states("relay") == ["dead"]
    assert node.accept(said(2)) == 0


def test_an_event_goes_to_functions_and_workflows_alike(
    node: TriggerNode, runs: dict[str, NewRun]
) -> None:
    node.deploy("other", event_type("said"))
    assert node.accept(said(1)) == 2
    node.drain()
    assert node.called == ["other"] and len(runs) == 1


def test_an_event_that_went_round_for_too_long_starts_nothing(
    node: TriggerNode, runs: dict[str, NewRun]
) -> None:
    node.accept(said(1, dsfnhops=33))
    node.drain()
    assert node.states("relay") == ["dead"] and not runs
