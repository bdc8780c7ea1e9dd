"""Those who watch runs: each change goes to all who asked for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import field
from weakref import WeakSet

from dsfn.functions.values import dataclass
from dsfn.runtime.workflows.model import Change

MAX_BEHIND = 1000


@dataclass(eq=False, slots=True, weakref_slot=True)
class _Watcher:
    """One who watches, and what it has not read yet."""

    run: str | None
    changes: deque[Change] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False, slots=True)
class Watchers:
    """Hands changes on. Who is `MAX_BEHIND` of them behind misses steps, but no run's end."""

    # Who lets go of what `watch` gave does not watch any more, even if it never looked.
    _watching: WeakSet[_Watcher] = field(default_factory=WeakSet)

    def __bool__(self) -> bool:
        return len(self._watching) > 0

    def publish(self, change: Change) -> None:
        """Tells those who watch this run, or all."""
        for watcher in self._watching:
            if watcher.run not in (None, change.run):
                continue
            if change.ended is None and len(watcher.changes) >= MAX_BEHIND:
                continue
            watcher.changes.append(change)
            watcher.arrived.set()

    def watch(self, run: str | None) -> AsyncIterator[Change]:
        """What happens from now on, until the run has ended."""
        watcher = _Watcher(run)
        self._watching.add(watcher)
        return self._follow(watcher)

    async def _follow(self, watcher: _Watcher) -> AsyncIterator[Change]:
        while True:
            await watcher.arrived.wait()
            watcher.arrived.clear()
            while watcher.changes:
                change = watcher.changes.popleft()
                yield change
                if change.ended is not None and watcher.run is not None:
                    return
