"""Sends new snapshots to the store in the background, until it has them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import field

from dsfn.functions.errors import DsfnError, NotFound, SnapshotError
from dsfn.functions.values import dataclass
from dsfn.runtime.waiting import wait_within

FIRST_PAUSE_S = 10.0
MAX_PAUSE_S = 600.0


@dataclass(eq=False, slots=True)
class _Wait:
    """A snapshot that is to be pushed at `due_s` (None: it was given up), and why it is not
    there yet."""

    pause_s: float
    due_s: float | None = 0.0
    reason: str | None = None


@dataclass(eq=False)
class Pusher:
    """One push after the other; one that fails is tried again, ever more seldom."""

    push: Callable[[str], Awaitable[None]]
    first_pause_s: float = FIRST_PAUSE_S
    _waits: dict[str, _Wait] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to push what was, and will be, added."""
        self._task = asyncio.create_task(self._run())

    def add(self, digest: str) -> None:
        """This snapshot is to be pushed, once."""
        if not self.waits(digest):
            self._waits[digest] = _Wait(self.first_pause_s)
            self._changed.set()

    def waits(self, digest: str) -> bool:
        """Whether a snapshot is still to be pushed."""
        return digest in self._waits and self._waits[digest].due_s is not None

    def reason(self, digest: str) -> str | None:
        """Why a snapshot was not pushed yet, None when nothing went wrong."""
        wait = self._waits.get(digest)
        return wait.reason if wait is not None else None

    async def close(self) -> None:
        """Pushes no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            due = [(w.due_s, digest) for digest, w in self._waits.items() if w.due_s is not None]
            due_s, digest = min(due, default=(None, ""))
            pause_s = None if due_s is None else due_s - loop.time()
            if pause_s is None or pause_s > 0:
                await wait_within(self._changed, pause_s)
            else:
                await self._push(digest, self._waits[digest])

    async def _push(self, digest: str, wait: _Wait) -> None:
        try:
            await self.push(digest)
        except (NotFound, SnapshotError) as error:
            # It has left the disk, or is damaged there: trying again would not help.
            wait.reason, wait.due_s = error.message, None
        except DsfnError as error:
            wait.reason = error.message
            wait.due_s = asyncio.get_running_loop().time() + wait.pause_s
            wait.pause_s = min(MAX_PAUSE_S, 2 * wait.pause_s)
        else:
            self._waits.pop(digest, None)
