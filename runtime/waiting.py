"""Waiting for what may not happen."""

from __future__ import annotations

import asyncio
from contextlib import suppress

_MAX_DOUBLINGS = 40  # more would not fit a float, and every limit is below


def doubled_s(first_s: float, times: int, most_s: float) -> float:
    """`first_s`, doubled so many times, but no more than `most_s`."""
    return min(first_s * 2.0 ** min(times, _MAX_DOUBLINGS), most_s)


async def wait_within(event: asyncio.Event, timeout_s: float | None) -> None:
    """Returns when the event is set, or after `timeout_s`, None for no limit.

    Not by `asyncio.wait_for`, which in Python 3.11 forgets a cancellation that comes together
    with the event (https://github.com/python/cpython/issues/86296).
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
