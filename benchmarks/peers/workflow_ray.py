"""Ray tasks as its documentation has them: results are handed on by reference, nothing is stored.

https://docs.ray.io/en/latest/ray-core/tasks.html
"""

# mypy: disable-error-code="import-not-found,untyped-decorator"
from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ray

from benchmarks.workflows.measure import Client, Site, main


@ray.remote
def noop(x: int) -> int:
    """A step."""
    return x + 1


class Tasks(Client):
    """A step of a chain is submitted before the one before it has ended."""

    async def chain(self, steps: int) -> int:
        x: Any = 0
        for _ in range(steps):
            x = noop.remote(x)
        return int(await x)

    async def fan_out(self, items: int) -> int:
        return sum(ray.get([noop.remote(i) for i in range(items)]))


@asynccontextmanager
async def connect(site: Site) -> AsyncIterator[Client]:
    """Ray starts its own processes."""
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
        _temp_dir=str(site.directory / "ray"),
    )
    try:
        yield Tasks()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(connect)
