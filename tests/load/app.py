"""What the load tests call: pods of it go six seconds after the last call."""

from __future__ import annotations

import asyncio

import dsfn


@dsfn.function(concurrency=10, max_replicas=4, park_after=6, remove_after=6)
async def greet(name: str) -> str:
    """A greeting that takes its time."""
    await asyncio.sleep(0.05)
    return f"hello {name}"
