"""A workflow whose node and workers are killed while it runs."""

from __future__ import annotations

import asyncio
import time

import dsfn


@dsfn.function(max_replicas=2)
def double(n: int) -> int:
    """Twice the number, after a moment."""
    time.sleep(0.002)
    return 2 * n


@dsfn.function(max_replicas=2, concurrency=16)
async def is_odd(n: int) -> bool:
    """Whether a number is odd, after a moment."""
    await asyncio.sleep(0.002)
    return n % 2 == 1


@dsfn.function(max_replicas=1)
def total(ns: list[int]) -> int:
    """Adds numbers up."""
    return sum(ns)


twice = double.step(retries=20, backoff_delay=0.01)
odd = is_odd.step(retries=20, backoff_delay=0.01)
added = total.step(retries=20, backoff_delay=0.01)


@dsfn.workflow
def durable(n: int, ns: list[int]) -> list[int]:
    """Doubles the odd ones, adds all up, and adds twice `n`."""
    numbers = dsfn.map(
        lambda i: dsfn.when(odd(i), lambda: twice(i), lambda: twice(0)), ns, parallel=4
    )
    return [added(numbers), twice(n)]
