"""The limit: coroutines that call each other in one process. Nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.workflows.measure import Client, Site, main


async def noop(x: int) -> int:
    """A step, which lets the others go on."""
    await asyncio.sleep(0)
    return x + 1


class Coroutines(Client):
    """A loop and a gather."""

    async def chain(self, steps: int) -> int:
        x = 0
        for _ in range(steps):
            x = await noop(x)
        return x

    async def fan_out(self, items: int) -> int:
        return sum(await asyncio.gather(*map(noop, range(items))))


@asynccontextmanager
async def connect(site: Site) -> AsyncIterator[Client]:
    """There is nothing to connect to."""
    del site
    yield Coroutines()


if __name__ == "__main__":
    main(connect)
