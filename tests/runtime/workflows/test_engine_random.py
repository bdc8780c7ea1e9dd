"""Random workflows on the engine, compared with the simplest way to run them."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from dags import dags, inputs, interpret
from hypothesis import HealthCheck, given, settings
from run_node import RunNode

from dsfn.functions.workflow.dag import Dag
from dsfn.runtime.workflows.model import RunState


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(dag=dags(max_steps=14), values=inputs())
def test_a_run_gives_what_the_steps_give_one_by_one(dag: Dag, values: dict[str, Any]) -> None:
    async def scenario(root: Path) -> None:
        node = RunNode(root)
        node.engine.start_serving()
        record = await asyncio.wait_for(node.run(dag, **values), 20)
        expected = interpret(dag, values)
        assert record.state is RunState.SUCCEEDED, record.error
        assert node.output(record) == expected.output
        assert len(node.billed()) == len(expected.calls)
        await node.close()

    with tempfile.TemporaryDirectory() as root:
        asyncio.run(scenario(Path(root)))
