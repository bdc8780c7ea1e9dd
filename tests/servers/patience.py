"""A limit for what a test awaits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(work: Awaitable[T], seconds: float) -> T:
    """What `work` gives. Raises `TimeoutError` when that takes longer, and cancels it."""
    async with asyncio.timeout(seconds):
        return await work
