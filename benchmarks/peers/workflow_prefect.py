"""Prefect flows as its documentation has them, with results kept; ADDRESS is its server's.

https://docs.prefect.io/v3/advanced/results
"""

# mypy: disable-error-code="import-not-found,misc,untyped-decorator"
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect import flow, task
from prefect.task_runners import ThreadPoolTaskRunner

from benchmarks.workflows.measure import Client, Site, main


@task(persist_result=True)
async def noop(x: int) -> int:
    """A step."""
    return x + 1


@task(persist_result=True)
def mapped(x: int) -> int:
    """A step of a fan-out."""
    return x + 1


@flow
async def chain(steps: int) -> int:
    """So many steps, one after the other."""
    x = 0
    for _ in range(steps):
        x = await noop(x)
    return x


@flow(task_runner=ThreadPoolTaskRunner(max_workers=32))
def fan(items: list[int]) -> list[int]:
    """A step for each; six times as fast as a gather of coroutines was."""
    return list(mapped.map(items).result())


class Flows(Client):
    """Flows are called where they run; the server keeps their states."""

    async def chain(self, steps: int) -> int:
        return int(await chain(steps))

    async def fan_out(self, items: int) -> int:
        return sum(await asyncio.to_thread(fan, list(range(items))))


@asynccontextmanager
async def connect(site: Site) -> AsyncIterator[Client]:
    """Its server is found by `PREFECT_API_URL`."""
    del site
    yield Flows()


if __name__ == "__main__":
    main(connect)
