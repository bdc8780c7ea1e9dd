"""Which deployments wait for which: they are made one after the other, and come up side by side.

What a deployment makes takes the machine's memory and processors. Until it is up it may take
minutes, on a cluster without the room for it, and those of other functions do not wait for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import field
from weakref import WeakValueDictionary

from dsfn.functions.errors import Unavailable
from dsfn.functions.values import dataclass

MAX_UNDER_WAY = 8
WAIT_TIMEOUT_S = 600.0

# Told what is waited for, in a sentence.
Say = Callable[[str], None]


@dataclass(eq=False)
class Turns:
    """Of the deployments of a node."""

    _making: asyncio.Lock = field(default_factory=asyncio.Lock)
    # By function, as long as somebody has or wants one.
    _owned: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    _under_way: int = 0

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """A deployment from its beginning to its end. Raises `Unavailable` when there are too
        many."""
        if self._under_way >= MAX_UNDER_WAY:
            raise Unavailable("Too many deployments are under way already.", retry_after_s=10)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    @asynccontextmanager
    async def making(self, say: Say) -> AsyncIterator[None]:
        """Inside the block nothing of other deployments is made. Raises `Unavailable`."""
        await _acquire(self._making, "Waiting for another deployment to end.", say)
        try:
            yield
        finally:
            self._making.release()

    @asynccontextmanager
    async def owning(self, functions: Iterable[str], say: Say) -> AsyncIterator[None]:
        """Inside the block no other deployment has one of these functions. It is not entered inside
        `making`, which others need to end. Raises `Unavailable`."""
        async with AsyncExitStack() as stack:
            # In one order, or two would wait for each other.
            for name in sorted(functions):
                lock = self._owned.setdefault(name, asyncio.Lock())
                await _acquire(lock, f"Waiting for another deployment of {name} to end.", say)
                stack.callback(lock.release)
            yield


async def _acquire(lock: asyncio.Lock, words: str, say: Say) -> None:
    if lock.locked():
        say(words)
    try:
        async with asyncio.timeout(WAIT_TIMEOUT_S):
            await lock.acquire()
    except TimeoutError:
        raise Unavailable("Another deployment has not ended in time.", retry_after_s=60) from None
