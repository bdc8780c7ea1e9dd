"""Waiting for what may not happen."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def wait_within(event: asyncio.Event, timeout_s: float | None) -> None:
    """Returns when the event is set, or after `timeout_s`, None for no limit.

    Not by `asyncio.wait_for`, which in Python 3.11 forgets a cancellation that comes together
    with the event (https://github.com/python/cpython/issues/86296).
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
