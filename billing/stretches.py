"""Checks stretches of a ledger's chains, in several processes where that is faster."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from dsfn.billing.stretch_check import Checked, Stretch

# Processes take a moment to start.
_MIN_STRETCHES = 5


def check_all(
    here: Callable[[Stretch], Checked],
    apart: Callable[[Stretch], Checked],
    stretches: Iterable[Stretch],
    processes: int,
) -> Iterator[tuple[Stretch, Checked]]:
    """What came of checking stretches, in any order, with `here` in this process and with `apart`
    in the others."""
    stretches = list(stretches)
    if processes == 1 or len(stretches) < _MIN_STRETCHES:
        yield from ((stretch, here(stretch)) for stretch in stretches)
        return
    # Threads may be running here, so the others do not begin as copies of this process.
    pool = ProcessPoolExecutor(processes - 1, multiprocessing.get_context("spawn"))
    try:
        futures = deque((stretch, pool.submit(apart, stretch)) for stretch in stretches)
        while futures:
            # The others begin at one end, this process at the other.
            stretch, future = futures.pop()
            yield stretch, here(stretch) if future.cancel() else future.result()
            while futures and futures[0][1].done():
                stretch, future = futures.popleft()
                yield stretch, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def all_processes() -> int:
    """How many processes check the fastest."""
    return len(os.sched_getaffinity(0))
