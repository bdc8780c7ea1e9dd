"""Steps that do nothing, and workflows of them."""

from __future__ import annotations

import time
from pathlib import Path

import dsfn


@dsfn.function(concurrency=64, max_replicas=1)
def noop(x: int) -> int:
    """Adds one, so that a result tells how many steps there were."""
    return x + 1


@dsfn.function(concurrency=256, max_replicas=1, timeout="1h")
def held(x: int, gate: str) -> int:
    """A step that waits for a file."""
    while not Path(gate).exists():
        time.sleep(0.2)
    return x + 1


@dsfn.workflow
def chain_1(x: int) -> int:
    """One step."""
    return noop(x)


@dsfn.workflow
def chain_10(x: int) -> int:
    """Ten steps, one after the other."""
    for _ in range(10):
        x = noop(x)
    return x


@dsfn.workflow
def chain_100(x: int) -> int:
    """A hundred steps, one after the other."""
    for _ in range(100):
        x = noop(x)
    return x


@dsfn.workflow
def fan(items: list[int]) -> list[int]:
    """A step for each, side by side."""
    return dsfn.map(noop, items, parallel=256)


@dsfn.workflow
def interrupted(gate: str) -> int:
    """Three steps, of which the second waits."""
    return noop(held(noop(0), gate))
