"""A workflow whose node and workers are killed while it runs."""

from __future__ import annotations

import asyncio
import time

import dsfn

TRIED = {"retries": 20, "backoff_delay": 0.01}


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


@dsfn.workflow
def durable(n: int, ns: list[int]) -> list[int]:
    """Doubles the odd ones, adds all up, and adds twice `n`."""
    first = double.step(**TRIED)(n)
    numbers = dsfn.map(
        lambda i: dsfn.when(
            is_odd.step(**TRIED)(i),
            lambda: double.step(**TRIED)(i),
            lambda: double.step(**TRIED)(0),
        ),
        ns,
        parallel=4,
    )
    return [total.step(**TRIED)(numbers), first]
