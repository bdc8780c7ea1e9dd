"""A disk that is full for a moment: what was taken back begins once again, not twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from run_node import COST_NANO, RunNode, answer_to, of, pure, workflow

from dsfn.billing.sqlite import transaction
from dsfn.functions.errors import HandlerRaised, StorageFull
from dsfn.functions.workflow.dag import (
    Call as CallStep,
)
from dsfn.functions.workflow.dag import (
    Dag,
    Expr,
    Fallback,
    Input,
    ListOf,
    Result,
    StepOptions,
    WorkflowInput,
)
from dsfn.runtime.model import Answer, Call
from dsfn.runtime.workflows import turns

OnNode = Callable[..., None]


class Disk:
    """A disk that refuses so many of the next transactions."""

    def __init__(self) -> None:
        self.refusals = 0

    def transaction(self, connection: Any) -> Any:
        if self.refusals:
            self.refusals -= 1
            raise StorageFull("The disk is full.")
        return transaction(connection)


@contextmanager
def a_disk() -> Iterator[Disk]:
    disk = Disk()
    with patch.object(turns, "transaction", disk.transaction), patch.object(turns, "PAUSE_S", 0.02):
        yield disk


def step(name: str, of: Expr, **options: Any) -> CallStep:
    return CallStep(name, "double", (("n", of),), None, StepOptions(**options))


def flow(*steps: CallStep) -> Dag:
    """A workflow that gives what all of its steps give."""
    output = ListOf(tuple(Result(each.id) for each in steps))
    return workflow(*steps, output=output, inputs=(WorkflowInput("n", "json"),))


def test_a_step_that_waits_to_be_tried_again_is_tried_once(on_node: OnNode) -> None:
    calls = Counter[str]()

    async def scenario(node: RunNode) -> None:
        async def behave(call: Call) -> Answer:
            place = call.caller.split("/")[1]
            calls[place] += 1
            if calls["waits"] == 1 and place == "waits":
                raise HandlerRaised("not yet")
            if place == "full":
                await asyncio.sleep(0.1)
                disk.refusals = 1
            return await pure(call)

        node.behave = behave
        record = await node.run(
            flow(
                step("waits", Input("n"), retries=3, backoff_delay_s=0.3),
                step("full", Input("n")),
                step("last", Result("waits")),
            ),
            n=1,
        )
        assert node.output(record) == [2, 2, 4]
        await asyncio.sleep(0.3)
        assert calls == {"waits": 2, "full": 1, "last": 1}
        assert record.cost_nano == len(node.billed()) * COST_NANO

    with a_disk() as disk:
        on_node(scenario)


def test_a_call_that_cannot_be_begun_has_one_fallback(on_node: OnNode) -> None:
    calls = Counter[str]()

    async def behave(call: Call) -> Answer:
        calls[call.function] += 1
        return answer_to(call, 2)

    async def scenario(node: RunNode) -> None:
        dag = flow(step("s", Input("n"), fallback=Fallback(function="halve")))
        run = node.new_run(dag, {"n": of(4)})
        id_ = await node.engine.start(replace(run, pins={"halve": run.pins["halve"]}))
        # It has been found out that there is no such function, which is yet to be stored.
        disk.refusals = 1
        record = await node.engine.wait(id_)
        assert node.output(record) == [2]
        await asyncio.sleep(0.1)
        assert calls == {"halve": 1}

    with a_disk() as disk:
        on_node(scenario, behave=behave)
