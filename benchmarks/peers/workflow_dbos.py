"""DBOS workflows as its documentation has them: coroutines, whose steps are stored as they end.

https://docs.dbos.dev/python/tutorials/workflow-tutorial
ADDRESS is the URL of its database.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator"
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig, SetWorkflowID

from benchmarks.workflows.measure import LOOK_S, Client, Resumable, Site, main

_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]


@DBOS.step()
async def noop(x: int) -> int:
    """A step."""
    return x + 1


@DBOS.step()
async def held(x: int, gate: str) -> int:
    """A step that waits for a file."""
    while not Path(gate).exists():
        await asyncio.sleep(LOOK_S)
    return x + 1


@DBOS.workflow()
async def chain(steps: int) -> int:
    """So many steps, one after the other."""
    x = 0
    for _ in range(steps):
        x = await noop(x)
    return x


@DBOS.workflow()
async def fan(items: list[int]) -> list[int]:
    """A step for each."""
    return list(await asyncio.gather(*map(noop, items)))


@DBOS.workflow()
async def interrupted(gate: str) -> int:
    """Three steps, of which the second waits."""
    return int(await noop(await held(await noop(0), gate)))


class Workflows(Resumable):
    """Workflows are called where they run, as DBOS is a library."""

    def __init__(self, site: Site) -> None:
        self._gate = str(site.gate)

    async def chain(self, steps: int) -> int:
        return int(await chain(steps))

    async def fan_out(self, items: int) -> int:
        return sum(await fan(list(range(items))))

    async def begin(self, runs: int) -> None:
        for number in range(runs):
            with SetWorkflowID(f"run-{number}"):
                await DBOS.start_workflow_async(interrupted, self._gate)

    async def ended_at_s(self, runs: int) -> float | None:
        found = await DBOS.list_workflows_async(
            name=interrupted.__qualname__, status=_ENDED, load_input=False
        )
        if len(found) < runs:
            return None
        assert all(each.status == "SUCCESS" and each.output == 3 for each in found), found[:3]
        return float(max(each.updated_at for each in found)) / 1e3


@asynccontextmanager
async def connect(site: Site) -> AsyncIterator[Client]:
    """Launches DBOS, which goes on with the runs that it finds."""
    config: Any = DBOSConfig(
        name="bench", system_database_url=site.address, log_level="ERROR", executor_id="bench"
    )
    DBOS(config=config)
    DBOS.launch()
    try:
        yield Workflows(site)
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main(connect)
