"""Calls to post: rows like those of a busy node, the same in every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from dsfn.billing.periods import Month
from dsfn.billing.usage import Usage

MONTH = "2026-03"
_MONTH = Month.parse(MONTH)
_MONTH_US = _MONTH.end_us - _MONTH.start_us
_TENANTS = tuple(f"tenant-{number}" for number in range(8))
_FUNCTIONS = tuple(f"function-{number}" for number in range(16))
_LEASE_ROWS = 100  # how many calls a replica answers before it is parked


def call(random: Random, number: int, count: int, part: int = 0) -> Usage:
    """One of `count` calls that are spread evenly over `MONTH`, in the order of time. No lease has
    calls of two parts."""
    function = number // _LEASE_ROWS % len(_FUNCTIONS)
    held_us = random.randrange(1_000, 200_000)
    started_at_us = _MONTH.start_us + _MONTH_US * number // count
    return Usage(
        # Like a node's own: they sort by time, and no two nodes make the same.
        invocation_id=f"{started_at_us:014x}{random.getrandbits(64):016x}",
        tenant=_TENANTS[number % len(_TENANTS)],
        caller="key",
        function=_FUNCTIONS[function],
        revision="0123456789ab",
        device_class="cpu" if function % 2 else "NVIDIA H100",
        started_at_us=started_at_us,
        busy_us=held_us // 2,
        held_us=held_us,
        restore_us=0,
        status="succeeded",
        device="cpu" if function % 2 else "gpu:0",
        lease=f"lease-{part}-{number // _LEASE_ROWS}",
        key_id="0123456789abcdef",
    )


def batches(count: int, size: int, part: int = 0, parts: int = 1) -> Iterator[Sequence[Usage]]:
    """`count` calls, `size` at a time; of these every `parts`-th, from number `part` on."""
    for first in range(part * size, count, parts * size):
        random = Random(first)
        numbers = range(first, min(first + size, count))
        yield [call(random, number, count, part) for number in numbers]
