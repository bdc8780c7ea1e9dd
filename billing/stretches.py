"""Checks stretches of a ledger's chains, in several processes where that is faster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from dsfn.billing.chain_check import Checked

# The chain, and the numbers of the first and the last row.
Stretch = tuple[int, int, int]
# Processes take a moment to start.
_MIN_STRETCHES = 10


def check_all(
    check: Callable[[Stretch], Checked], stretches: Iterable[Stretch], processes: int
) -> Iterator[Checked]:
    """What came of checking stretches, in their order."""
    stretches = list(stretches)
    if processes == 1 or len(stretches) < _MIN_STRETCHES:
        yield from map(check, stretches)
        return
    # Threads may be running here, so the others do not begin as copies of this process.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn) as pool:
        yield from pool.map(check, stretches)


def all_processes() -> int:
    """How many processes check the fastest."""
    return len(os.sched_getaffinity(0))
