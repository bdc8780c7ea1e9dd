"""Random workflows on the engine, compared with the simplest way to run them."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from dags import Interpreted, dags, inputs, interpret
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import within
from run_node import COST_NANO, RunNode, of, pure

from dsfn.functions import errors
from dsfn.functions.errors import DsfnError
from dsfn.functions.workflow.dag import Dag, StepOptions
from dsfn.runtime.model import Answer, Call
from dsfn.runtime.workflows import tally
from dsfn.runtime.workflows.model import RunState, StepState

WITHIN_S = 30
# Nothing here depends on a disk, and there are many databases.
MEMORY = Path("/dev/shm")
RETRIES = 2
OPTIONS = st.builds(StepOptions, retries=st.just(RETRIES), backoff_delay_s=st.just(0.0))
thorough = settings(
    max_examples=int(os.environ.get("DSFN_RANDOM_RUNS", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@thorough
@given(dag=dags(max_steps=14), values=inputs())
def test_a_run_gives_what_the_steps_give_one_by_one(dag: Dag, values: dict[str, Any]) -> None:
    async def scenario(root: Path) -> None:
        node = RunNode(root)
        node.engine.start_serving()
        run = node.new_run(dag, {name: of(value) for name, value in values.items()})
        record = await node.engine.wait(await node.engine.start(replace(run, id="r")))
        expected = interpret(dag, values)
        assert record.state is RunState.SUCCEEDED, record.error
        assert node.output(record) == expected.output
        assert Counter(places(expected)) == Counter(u.caller for u in node.billed())
        await node.close()

    run_in_directory(scenario)


@thorough
@given(dag=dags(max_steps=12, options=OPTIONS), values=inputs(), seed=st.integers(0, 2**32))
def test_faults_and_crashes_change_neither_results_nor_bills(
    dag: Dag, values: dict[str, Any], seed: int
) -> None:
    async def scenario(root: Path) -> None:
        expected = interpret(dag, values)
        world = World(random.Random(seed), left=len(expected.calls) // 2 + 1)
        record = await world.see_through(root, dag, values)
        assert world.node.output(record) == expected.output
        billed = [u for u in world.node.billed() if u.status == "succeeded"]
        assert Counter(places(expected)) == Counter(u.caller for u in billed)
        assert record.cost_nano == COST_NANO * len(world.node.billed())
        await world.node.close()

    with patch.object(tally, "_FIRST_POSTPONEMENT_S", 0.001):
        run_in_directory(scenario)


def run_in_directory(scenario: Any) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as root:
        asyncio.run(within(scenario(Path(root)), WITHIN_S))


def places(expected: Interpreted) -> Iterator[str]:
    """Each call that a run makes, as its row in the books has it."""
    for step, path, _ in expected.calls:
        yield f"run:r/{step}/{'.'.join(map(str, path))}"


@dataclass
class World:
    """A node whose functions fail, and that is killed, at random; `left`: how often it may be."""

    luck: random.Random
    left: int
    failed: Counter[str] = field(default_factory=Counter)
    done: set[str] = field(default_factory=set)
    node: RunNode = field(init=False)

    async def see_through(self, root: Path, dag: Dag, values: Mapping[str, Any]) -> Any:
        """Starts the run, and the node again and again, until the run has ended."""
        self.killed = asyncio.Event()
        self.node = RunNode(root, self.behave)
        self.node.engine.start_serving()
        run = self.node.new_run(dag, {name: of(value) for name, value in values.items()})
        await self.node.engine.start(replace(run, id="r"))
        while True:
            ended = asyncio.create_task(self.node.engine.wait("r"))
            killed = asyncio.create_task(self.killed.wait())
            await asyncio.wait([ended, killed], return_when=asyncio.FIRST_COMPLETED)
            killed.cancel()
            if ended.done():
                return ended.result()
            ended.cancel()
            self.node.kill()
            self.killed.clear()
            known = self.node.workflows
            self.node = RunNode(root, self.behave)
            self.node.workflows = known
            self.done = {
                f"run:r/{record.step}/{'.'.join(map(str, record.path))}"
                for _, record, _ in self.node.store.steps("r", limit=10_000)
                if record.state is StepState.SUCCEEDED and record.function is not None
            }
            self.node.engine.start_serving()

    async def behave(self, call: Call) -> Answer:
        assert call.caller not in self.done, "what is done does not run again"
        for _ in range(self.luck.randrange(3)):
            await asyncio.sleep(0)
        if self.left > 0 and self.luck.random() < 0.2:
            self.left -= 1
            self.killed.set()
        if self.luck.random() < 0.2 and self.failed[call.caller] < RETRIES:
            raise self.fault(call)
        return await pure(call)

    def fault(self, call: Call) -> DsfnError:
        kind = self.luck.choice([errors.HandlerRaised, errors.HandlerCrashed, errors.ReplicaLost])
        self.failed[call.caller] += 1
        return kind("Bad luck.")
