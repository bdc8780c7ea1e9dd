"""What tests of functions on a stand-in for a GPU share: three functions that do not all fit."""

from __future__ import annotations

from functools import cache

from apps import gpus
from live_node import Table

MIB = 1 << 20
# The functions of apps/gpus.py, 16 MiB each, by the seed of their weights.
SEEDS = {"alpha": 1, "beta": 2, "gamma": 3}
weights = cache(gpus.layers)


def stand_in(size_bytes: int, bytes_per_s: int = 0, warm: int = 0) -> Table:
    """A node's part of the configuration: a device of this size, as fast as it goes with 0, an
    arena that all of them fit, `warm` spare workers, and nothing else taken."""
    return {
        "devices": [f"host:{size_bytes}:{bytes_per_s}"],
        "arena": f"{96 * MIB}B",
        "reserve": "0B",
        "context": "0B",
        "warm": warm,
    }


def expected(name: str, number: float) -> list[float]:
    """What a function answers."""
    return gpus.answer(weights(SEEDS[name]), number)
