"""Temporal workflows as the Python SDK's documentation has them; client and worker in one process.

https://docs.temporal.io/develop/python
ADDRESS is that of the server, with "/local" behind it where steps are local activities.
"""

# mypy: disable-error-code="import-not-found,import-untyped,misc,untyped-decorator"
from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration
from temporalio import activity, workflow
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client as Connection
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from benchmarks.workflows.measure import LOOK_S, Client, Resumable, Site, main

NAMESPACE = QUEUE = "bench"
START_S = 60.0
STEP = timedelta(minutes=10)
LOST = timedelta(seconds=5)  # without a heartbeat
DAY_S = 86_400


@activity.defn
async def noop(x: int) -> int:
    """A step."""
    return x + 1


@activity.defn
async def held(x: int, gate: str) -> int:
    """A step that waits for a file."""
    while not Path(gate).exists():
        activity.heartbeat()
        await asyncio.sleep(LOOK_S)
    return x + 1


def step(local: bool) -> Callable[[int], Awaitable[int]]:
    """How a workflow runs a step."""
    run = workflow.execute_local_activity if local else workflow.execute_activity
    return lambda x: run(noop, x, start_to_close_timeout=STEP)


@workflow.defn
class Chain:
    """So many steps, one after the other."""

    @workflow.run
    async def run(self, steps: int, local: bool) -> int:
        x, run = 0, step(local)
        for _ in range(steps):
            x = await run(x)
        return x


@workflow.defn
class Fan:
    """A step for each."""

    @workflow.run
    async def run(self, items: list[int], local: bool) -> list[int]:
        return list(await asyncio.gather(*map(step(local), items)))


@workflow.defn
class Interrupted:
    """Three steps, of which the second waits."""

    @workflow.run
    async def run(self, gate: str) -> int:
        x = await step(False)(0)
        x = await workflow.execute_activity(
            held, args=[x, gate], start_to_close_timeout=STEP, heartbeat_timeout=LOST
        )
        return await step(False)(x)


class Workflows(Resumable):
    """Starts workflows over gRPC and waits for their results."""

    def __init__(self, connection: Any, local: bool, gate: Path) -> None:
        self._connection = connection
        self._local = local
        self._gate = str(gate)
        self._ids = count(time.time_ns())

    async def chain(self, steps: int) -> int:
        return int(await self._run(Chain.run, steps))

    async def fan_out(self, items: int) -> int:
        return sum(await self._run(Fan.run, list(range(items))))

    async def begin(self, runs: int) -> None:
        for number in range(runs):
            await self._connection.start_workflow(
                Interrupted.run, self._gate, id=f"run-{number}", task_queue=QUEUE
            )

    async def ended_at_s(self, runs: int) -> float | None:
        found = await self._connection.count_workflows(
            "WorkflowType = 'Interrupted' AND ExecutionStatus = 'Completed'"
        )
        if found.count < runs:
            return None
        listed = self._connection.list_workflows("WorkflowType = 'Interrupted'")
        return float(max([each.close_time.timestamp() async for each in listed]))

    async def _run(self, run: Any, argument: object) -> Any:
        return await self._connection.execute_workflow(
            run,
            args=[argument, self._local],
            id=str(next(self._ids)),
            task_queue=QUEUE,
            request_eager_start=True,
        )


@asynccontextmanager
async def connect(site: Site) -> AsyncIterator[Client]:
    """A client, once the server takes one, and a worker."""
    address, _, local = site.address.partition("/")
    connection = await _connected(address)
    async with Worker(
        connection,
        task_queue=QUEUE,
        workflows=[Chain, Fan, Interrupted],
        activities=[noop, held],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        yield Workflows(connection, bool(local), site.gate)


async def _connected(address: str) -> Any:
    """Registers the namespace, where it is not there yet, and waits until it is known."""
    deadline_s = time.monotonic() + START_S
    while True:
        try:
            connection = await Connection.connect(address, namespace=NAMESPACE)
            await _register(connection)
            await connection.count_workflows("WorkflowType = 'Interrupted'")
        except (RPCError, RuntimeError):
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(LOOK_S)
        else:
            return connection


async def _register(connection: Any) -> None:
    day = Duration(seconds=DAY_S)
    request = RegisterNamespaceRequest(namespace=NAMESPACE, workflow_execution_retention_period=day)
    try:
        await connection.workflow_service.register_namespace(request)
    except RPCError as error:
        if error.status != RPCStatusCode.ALREADY_EXISTS:
            raise


if __name__ == "__main__":
    main(connect)
