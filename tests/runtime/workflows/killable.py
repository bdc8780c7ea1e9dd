"""A node with runs that a test may kill: `python killable.py ROOT RUNS`.

It takes up what is there, starts what of RUNS is missing, and ends once all have ended.
Each call appends its place to the file `calls` when it begins.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from run_node import RunNode, interface, of, pure, workflow

from dsfn.functions.errors import HandlerRaised
from dsfn.functions.interface import FilterInterface
from dsfn.functions.workflow.dag import (
    Call as CallStep,
)
from dsfn.functions.workflow.dag import (
    Choice,
    Collected,
    Dag,
    Decide,
    Each,
    Input,
    Item,
    ObjectOf,
    Result,
    StepOptions,
    Within,
    WorkflowInput,
)
from dsfn.runtime.model import Answer, Call
from dsfn.runtime.registry import Subscription

TRIED = StepOptions(retries=20, backoff_delay_s=0.001)
INTERFACES = {
    "add": interface(("a", "json"), ("b", "json")),
    "double": interface(("n", "json")),
    "is-odd": interface(("n", "json")),
    "total": interface(("ns", "json")),
}
HEARD = Subscription(
    "ended", "listener", FilterInterface({}, {"type": "dev.dsfn.run."}, {}), "user"
)


def flow() -> Dag:
    """Every kind of step: a map with a decision in each item, joined, and a chain."""
    return workflow(
        CallStep("first", "double", (("n", Input("n")),), None, TRIED),
        Each("each", (Input("ns"),), parallel=4),
        CallStep("odd", "is-odd", (("n", Item("each")),), Within("each"), TRIED),
        Decide("if", Result("odd"), Within("each")),
        CallStep("yes", "double", (("n", Item("each")),), Within("if", True), TRIED),
        CallStep("sum", "total", (("ns", _numbers()),), None, TRIED),
        CallStep("last", "add", (("a", Result("sum")), ("b", Result("first"))), None, TRIED),
        output=ObjectOf((("last", Result("last")), ("numbers", _numbers()))),
        inputs=(WorkflowInput("n", "json"), WorkflowInput("ns", "json")),
    )


def _numbers() -> Collected:
    return Collected("each", Choice("if", Result("yes"), Item("each")))


def given(number: int) -> dict[str, object]:
    """The inputs of the run with this number."""
    return {"n": number, "ns": list(range(number % 7))}


def expected(number: int) -> object:
    """What comes of it."""
    numbers = [2 * n if n % 2 else n for n in range(number % 7)]
    return {"last": sum(numbers) + 2 * number, "numbers": numbers}


async def main(root: Path, runs: int) -> None:
    luck = random.Random()

    with (root / "calls").open("a", encoding="utf-8") as calls:

        async def behave(call: Call) -> Answer:
            print(call.caller, file=calls, flush=True)
            await asyncio.sleep(luck.random() / 100)
            if luck.random() < 0.1:
                raise HandlerRaised("Bad luck.")
            return await pure(call)

        node = RunNode(root, behave, INTERFACES, subscriptions=(HEARD,))
        dag = flow()
        node.deploy(dag)
        node.engine.start_serving()

        async def see_through(number: int) -> None:
            inputs = {name: of(value) for name, value in given(number).items()}
            run = node.new_run(dag, inputs, idempotency_key=str(number))
            await node.engine.wait(await node.engine.start(run))

        sys.stdout.write("up\n")
        sys.stdout.flush()
        await asyncio.gather(*map(see_through, range(runs)))
        await node.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
